//! The official command line, as far as mountkit uses it: same names, same values, same defaults.
//! What is not here (fstab style, S3 Express caches, metrics export) clap refuses by name. Flags,
//! their descriptions and messages are those of Mountpoint for Amazon S3 (Apache-2.0).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::builder::PossibleValuesParser;
use clap::{Parser, ValueEnum, value_parser};
use mountpoint_s3_client::config::{
    AWSCRT_LOG_TARGET, AddressingStyle, S3ClientAuthConfig, TlsConfig,
};
use mountpoint_s3_client::instance_info::InstanceInfo;
use mountpoint_s3_client::user_agent::UserAgent;
use mountpoint_s3_fs::data_cache::{CacheLimit, DataCacheConfig, DiskDataCacheConfig};
use mountpoint_s3_fs::fs::{
    CacheConfig, ServerSideEncryption, TimeToLive, UploadChecksumAlgorithm,
};
use mountpoint_s3_fs::fuse::config::{FuseOptions, FuseSessionConfig, MountPoint};
use mountpoint_s3_fs::logging::{LoggingConfig, prepare_log_file_name};
use mountpoint_s3_fs::memory::{MINIMUM_MEM_LIMIT, effective_total_memory};
use mountpoint_s3_fs::s3::config::{
    ClientConfig, MemoryLimitSetting, PartConfig, TargetThroughputSetting,
};
use mountpoint_s3_fs::s3::{Bucket, Prefix, S3Path, S3Personality};
use mountpoint_s3_fs::{S3FilesystemConfig, autoconfigure, metrics};

/// The release whose libraries are linked, marked so that nobody takes this for the official one.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+mountkit-test");

/// The official program's name for itself in logs; its filter and log readers go by it.
pub const LOG_TARGET: &str = "mountpoint_s3::run";

pub const CACHE_BLOCK_SIZE: usize = 1024 * 1024;

#[derive(Parser, Debug)]
#[clap(name = "mount-s3", version = VERSION)]
#[clap(about = "mountkit's test build of Mountpoint for Amazon S3 (not the official program)")]
pub struct CliArgs {
    /// Name of bucket, or an S3 URI, to mount
    #[clap(value_parser = parse_bucket)]
    bucket_name: BucketNameOrS3Uri,

    /// Directory or FUSE file descriptor (/dev/fd/N) to mount the bucket at
    #[clap(value_name = "DIRECTORY")]
    pub mount_point: PathBuf,

    /// Run as foreground process (this build does nothing else)
    #[clap(short, long)]
    pub foreground: bool,

    /// Prefix inside the bucket to mount, ending in '/' [default: mount the entire bucket]
    #[clap(long)]
    prefix: Option<Prefix>,

    /// AWS region of the bucket [default: auto-detect region]
    #[clap(long)]
    region: Option<String>,

    /// S3 endpoint URL [default: auto-detect endpoint]
    #[clap(long)]
    endpoint_url: Option<String>,

    /// Force path-style addressing
    #[clap(long)]
    force_path_style: bool,

    /// Use S3 Transfer Acceleration when accessing S3
    #[clap(long)]
    transfer_acceleration: bool,

    /// Use dual-stack endpoints when accessing S3
    #[clap(long)]
    dual_stack: bool,

    /// Set the 'x-amz-request-payer' to 'requester' on S3 requests
    #[clap(long)]
    requester_pays: bool,

    /// Account ID of the expected bucket owner
    #[clap(long, value_name = "AWS_ACCOUNT_ID")]
    expected_bucket_owner: Option<String>,

    /// Set the storage class for new objects
    #[clap(long)]
    storage_class: Option<String>,

    /// Server-side encryption algorithm to use when uploading new objects
    #[clap(long, value_parser = PossibleValuesParser::new(["aws:kms", "aws:kms:dsse", "AES256"]))]
    sse: Option<String>,

    /// AWS Key Management Service (KMS) key ARN to use with KMS server-side encryption
    #[clap(long, requires = "sse", value_parser = parse_kms_key_arn, value_name = "AWS_KMS_KEY_ARN")]
    sse_kms_key_id: Option<String>,

    /// Checksum algorithm to use for S3 uploads [default: crc32c]
    #[clap(long, value_name = "ALGORITHM")]
    upload_checksums: Option<UploadChecksums>,

    /// Do not sign requests. Credentials will not be loaded if this argument is provided
    #[clap(long)]
    no_sign_request: bool,

    /// Use a specific profile from your credential file
    #[clap(long)]
    profile: Option<String>,

    /// Mount file system in read-only mode
    #[clap(long)]
    read_only: bool,

    /// Allow delete operations on file system
    #[clap(long)]
    allow_delete: bool,

    /// Allow overwrite operations on file system
    #[clap(long)]
    allow_overwrite: bool,

    /// Enable incremental uploads and support for appending to existing objects
    #[clap(long)]
    incremental_upload: bool,

    /// Automatically unmount on exit
    #[clap(long)]
    auto_unmount: bool,

    /// Allow root user to access file system
    #[clap(long)]
    allow_root: bool,

    /// Allow other users, including root, to access file system
    #[clap(long, conflicts_with = "allow_root")]
    allow_other: bool,

    /// Owner UID [default: current user's UID]
    #[clap(long, value_parser = value_parser!(u32).range(1..))]
    uid: Option<u32>,

    /// Owner GID [default: current user's GID]
    #[clap(long, value_parser = value_parser!(u32).range(1..))]
    gid: Option<u32>,

    /// Directory permissions [default: 0755]
    #[clap(long, value_parser = parse_perm_bits)]
    dir_mode: Option<u16>,

    /// File permissions [default: 0644]
    #[clap(long, value_parser = parse_perm_bits)]
    file_mode: Option<u16>,

    /// Maximum throughput in Gbps [default: auto-detected on EC2 instances, 10 Gbps elsewhere]
    #[clap(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    maximum_throughput_gbps: Option<u64>,

    /// Maximum number of FUSE daemon threads
    #[clap(long, value_name = "N", default_value = "16", value_parser = value_parser!(u64).range(1..))]
    max_threads: u64,

    /// Maximum memory usage target [default: 95% of total (or cgroup-limited) memory]
    #[clap(long, value_name = "MiB", value_parser = value_parser!(u64).range(512..))]
    memory_target: Option<u64>,

    /// Part size for multi-part GET and PUT in bytes
    #[clap(long, value_name = "SIZE", default_value = "8388608",
           value_parser = value_parser!(u64).range(1..usize::MAX as u64))]
    part_size: u64,

    /// Part size for GET in bytes [default: 8388608]
    #[clap(long, value_name = "SIZE", conflicts_with = "part_size",
           value_parser = value_parser!(u64).range(1..usize::MAX as u64))]
    read_part_size: Option<u64>,

    /// Part size for multi-part PUT in bytes [default: 8388608]
    #[clap(long, value_name = "SIZE", conflicts_with = "part_size",
           value_parser = value_parser!(u64).range(1..usize::MAX as u64))]
    write_part_size: Option<u64>,

    /// The CA certificate bundle used to verify HTTPS connections
    #[clap(long, env = "AWS_CA_BUNDLE", value_name = "PATH")]
    ca_bundle: Option<PathBuf>,

    /// One or more network interfaces for Mountpoint to use when accessing S3
    #[clap(long, value_name = "NETWORK_INTERFACE")]
    bind: Option<Vec<String>>,

    /// Write log files to a directory [default: logs written to syslog]
    #[clap(short, long, value_name = "DIRECTORY")]
    log_directory: Option<PathBuf>,

    /// Enable logging of summarized performance metrics
    #[clap(long)]
    log_metrics: bool,

    /// Enable debug logging for Mountpoint
    #[clap(short, long)]
    debug: bool,

    /// Enable debug logging for AWS Common Runtime
    #[clap(long)]
    debug_crt: bool,

    /// Disable all logging. You will still see stdout messages
    #[clap(long, conflicts_with_all = ["log_directory", "debug", "debug_crt", "log_metrics"])]
    no_log: bool,

    /// Enable caching of object content to the given directory and set metadata TTL to 60 seconds
    #[clap(long, value_name = "DIRECTORY")]
    cache: Option<PathBuf>,

    /// Maximum size of the cache directory in MiB [default: preserve 5% of available space]
    #[clap(long, value_name = "MiB", requires = "cache")]
    max_cache_size: Option<u64>,

    /// Time-to-live (TTL) for cached metadata [default: minimal, or 60 seconds if --cache is set]
    #[clap(long, value_name = "SECONDS|indefinite|minimal")]
    metadata_ttl: Option<TimeToLive>,

    /// Time-to-live (TTL) for cached negative entries [default: same as metadata TTL]
    #[clap(long, value_name = "SECONDS|indefinite|minimal")]
    negative_metadata_ttl: Option<TimeToLive>,

    /// Configure a string to be prepended to the 'User-Agent' HTTP request header
    #[clap(long, value_name = "PREFIX")]
    user_agent_prefix: Option<String>,
}

#[derive(Debug, Clone)]
enum BucketNameOrS3Uri {
    BucketName(Bucket),
    S3Uri(S3Path),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UploadChecksums {
    Crc32c,
    Crc64nvme,
    Off,
}

impl CliArgs {
    pub fn s3_path(&self) -> anyhow::Result<S3Path> {
        let prefix = self.prefix.clone().unwrap_or_default();
        match self.bucket_name.clone() {
            BucketNameOrS3Uri::BucketName(bucket) => Ok(S3Path::new(bucket, prefix)),
            BucketNameOrS3Uri::S3Uri(path) if prefix.as_str().is_empty() => Ok(path),
            BucketNameOrS3Uri::S3Uri(_) => {
                Err(anyhow!("explicit prefix option not allowed with S3 URI"))
            }
        }
    }

    pub fn logging_config(&self) -> LoggingConfig {
        let default_filter = if self.no_log {
            "off".to_owned()
        } else {
            let base = if self.debug {
                "debug"
            } else {
                "warn,mountpoint_s3=info"
            };
            let crt = if self.debug_crt { "debug" } else { "off" };
            let mut filter = format!("{base},{AWSCRT_LOG_TARGET}={crt}");
            if !self.log_metrics && !self.debug {
                filter.push_str(&format!(",{}=off", metrics::TARGET_NAME));
            }
            filter
        };
        LoggingConfig {
            log_file: self.log_directory.as_deref().map(prepare_log_file_name),
            log_to_stdout: self.foreground,
            default_filter,
        }
    }

    pub fn fuse_session_config(&self) -> anyhow::Result<FuseSessionConfig> {
        let mount_point =
            MountPoint::new(&self.mount_point).context("Failed to create mount point")?;
        let clone_fd = std::env::var("UNSTABLE_MOUNTPOINT_CLONE_FUSE_FD")
            .is_ok_and(|v| v.to_lowercase() == "true");
        let options = FuseOptions {
            read_only: self.read_only,
            auto_unmount: self.auto_unmount,
            allow_root: self.allow_root,
            allow_other: self.allow_other,
            clone_fd,
        };
        FuseSessionConfig::new(mount_point, options, self.max_threads as usize)
    }

    pub fn server_side_encryption(&self) -> anyhow::Result<ServerSideEncryption> {
        if self.sse_kms_key_id.is_some() && self.sse.as_deref() == Some("AES256") {
            return Err(anyhow!(
                "--sse-kms-key-id can not be used with --sse AES256"
            ));
        }
        Ok(ServerSideEncryption::new(
            self.sse.clone(),
            self.sse_kms_key_id.clone(),
        ))
    }

    pub fn memory_limit(&self) -> MemoryLimitSetting {
        match self.memory_target {
            Some(mib) => MemoryLimitSetting::User(mib as usize * 1024 * 1024),
            None => {
                let most = (effective_total_memory() as f64 * 0.95) as usize;
                MemoryLimitSetting::Default(most.max(MINIMUM_MEM_LIMIT))
            }
        }
    }

    pub fn client_config(&self, memory: MemoryLimitSetting) -> anyhow::Result<ClientConfig> {
        let instance = InstanceInfo::new();
        let user_agent = self.user_agent(&instance);
        let throughput_target = self.throughput_target(&instance);
        let region = autoconfigure::get_region(&instance, self.region.clone());
        let parts = PartConfig::with_read_write_sizes(
            self.read_part_size.unwrap_or(self.part_size) as usize,
            self.write_part_size.unwrap_or(self.part_size) as usize,
        );
        Ok(ClientConfig {
            region,
            endpoint_url: self.endpoint_url.clone(),
            addressing_style: if self.force_path_style {
                AddressingStyle::Path
            } else {
                AddressingStyle::Automatic
            },
            dual_stack: self.dual_stack,
            transfer_acceleration: self.transfer_acceleration,
            auth_config: match &self.profile {
                _ if self.no_sign_request => S3ClientAuthConfig::NoSigning,
                Some(name) => S3ClientAuthConfig::Profile(name.clone()),
                None => S3ClientAuthConfig::Default,
            },
            requester_pays: self.requester_pays,
            expected_bucket_owner: self.expected_bucket_owner.clone(),
            throughput_target,
            bind: self.bind.clone(),
            part_config: parts.validate(memory)?,
            user_agent,
            tls_config: self
                .ca_bundle
                .clone()
                .map(|path| TlsConfig::new().with_trust_store_path(path)),
        })
    }

    fn user_agent(&self, instance: &InstanceInfo) -> UserAgent {
        let own = format!("mountpoint-s3/{VERSION}");
        let product = match &self.user_agent_prefix {
            Some(prefix) => format!("{prefix} {own}"),
            None => own,
        };
        let mut user_agent = UserAgent::new_with_instance_info(Some(product), instance);
        if self.read_only {
            user_agent.value("mp-readonly");
        }
        if self.cache.is_some() {
            user_agent.key_value("mp-cache", "local");
        }
        if let Some(ttl) = self.metadata_ttl {
            user_agent.key_value("mp-cache-ttl", &ttl.to_string());
        }
        if let Some(interfaces) = &self.bind {
            user_agent.key_value("mp-nw-interfaces", &interfaces.len().to_string());
        }
        user_agent
    }

    fn throughput_target(&self, instance: &InstanceInfo) -> TargetThroughputSetting {
        let target = match self.maximum_throughput_gbps {
            Some(gbps) => TargetThroughputSetting::User { gbps: gbps as f64 },
            None => match autoconfigure::network_throughput(instance) {
                Ok(gbps) => TargetThroughputSetting::Instance { gbps },
                Err(e) => {
                    tracing::warn!(
                        target: "mountpoint_s3::cli",
                        "failed to detect network throughput. Using {} gbps as throughput. \
                         Use --maximum-throughput-gbps CLI flag to configure a target throughput \
                         appropriate for the instance. Detection failed due to: {:?}",
                        TargetThroughputSetting::DEFAULT_TARGET_THROUGHPUT_GBPS,
                        e,
                    );
                    TargetThroughputSetting::Default
                }
            },
        };
        tracing::info!(target: "mountpoint_s3::cli", "target network throughput {} Gbps", target.value());
        target
    }

    pub fn filesystem_config(
        &self,
        sse: ServerSideEncryption,
        personality: S3Personality,
    ) -> S3FilesystemConfig {
        let usual = S3FilesystemConfig::default();
        S3FilesystemConfig {
            uid: self.uid.unwrap_or(usual.uid),
            gid: self.gid.unwrap_or(usual.gid),
            dir_mode: self.dir_mode.unwrap_or(usual.dir_mode),
            file_mode: self.file_mode.unwrap_or(usual.file_mode),
            storage_class: self.storage_class.clone(),
            allow_delete: self.allow_delete,
            allow_overwrite: self.allow_overwrite,
            incremental_upload: self.incremental_upload,
            read_only: self.read_only,
            s3_personality: personality,
            server_side_encryption: sse,
            cache_config: self.cache_config(),
            upload_checksum_algorithm: match self.upload_checksums {
                Some(UploadChecksums::Crc32c) => Some(UploadChecksumAlgorithm::Crc32c),
                Some(UploadChecksums::Crc64nvme) => Some(UploadChecksumAlgorithm::Crc64nvme),
                Some(UploadChecksums::Off) => None,
                None => personality
                    .supports_additional_checksums()
                    .then_some(UploadChecksumAlgorithm::Crc32c),
            },
            ..usual
        }
    }

    fn cache_config(&self) -> CacheConfig {
        let metadata_ttl = match self.metadata_ttl {
            Some(TimeToLive::Duration(Duration::ZERO)) => TimeToLive::Minimal,
            Some(ttl) => ttl,
            None if self.cache.is_some() => TimeToLive::Duration(Duration::from_secs(60)),
            None => TimeToLive::Minimal,
        };
        let config = CacheConfig::new(metadata_ttl);
        match self.negative_metadata_ttl {
            Some(ttl) => config.with_negative_metadata_ttl(ttl),
            None => config,
        }
    }

    pub fn data_cache_config(&self) -> DataCacheConfig {
        let limit = match self.max_cache_size {
            Some(mib) => CacheLimit::TotalSize {
                max_size: (mib * 1024 * 1024) as usize,
            },
            None => CacheLimit::default(),
        };
        let directory = self
            .cache
            .clone()
            .filter(|_| self.max_cache_size != Some(0));
        DataCacheConfig {
            disk_cache_config: directory.map(|cache_directory| DiskDataCacheConfig {
                cache_directory,
                block_size: CACHE_BLOCK_SIZE as u64,
                limit,
            }),
            express_cache_config: None,
        }
    }
}

fn parse_bucket(text: &str) -> anyhow::Result<BucketNameOrS3Uri> {
    Ok(if text.starts_with("s3://") {
        BucketNameOrS3Uri::S3Uri(S3Path::parse_s3_uri(text)?)
    } else {
        BucketNameOrS3Uri::BucketName(Bucket::new(text)?)
    })
}

fn parse_perm_bits(text: &str) -> anyhow::Result<u16> {
    match u16::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(_) => Err(anyhow!("only user/group/other permissions are supported")),
        Err(_) => Err(anyhow!("must be a valid octal number")),
    }
}

fn parse_kms_key_arn(text: &str) -> anyhow::Result<String> {
    if text.starts_with("arn:") && text.contains(":key") {
        Ok(text.to_owned())
    } else {
        Err(anyhow!(
            "KMS Key ARN is only accepted as a key identifier, Key Alias ARN is not accepted"
        ))
    }
}
