//! `mount-s3` for mountkit's tests, built from the libraries that Mountpoint for Amazon S3
//! publishes: its client, its file system and its FUSE session are the official ones, the command
//! line (`cli.rs`) and the few steps below follow the official program's order.

mod cli;

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Parser as _;
use mountpoint_s3_fs::data_cache::{DataCacheConfig, ManagedCacheDir};
use mountpoint_s3_fs::fuse::session::FuseSession;
use mountpoint_s3_fs::logging::init_logging;
use mountpoint_s3_fs::memory::{CandidateSize, PagedPool};
use mountpoint_s3_fs::s3::S3Personality;
use mountpoint_s3_fs::{MountpointConfig, Runtime, Superblock, SuperblockConfig, metrics};

use crate::cli::{CACHE_BLOCK_SIZE, CliArgs, LOG_TARGET, VERSION};

/// The official program's allocator and its settings: memory in use is like there, too.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

// SAFETY: the symbol that jemalloc reads at its start, a NUL-terminated list of options.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"abort_conf:true,background_thread:true,narenas:32\0";

fn main() -> anyhow::Result<()> {
    let args = CliArgs::try_parse().unwrap_or_else(|err| err.exit());
    if !args.foreground {
        bail!("this test build of mount-s3 stays in the foreground only: give --foreground");
    }
    let mounted = format!(
        "{} is mounted at {}",
        args.s3_path()?.bucket_description(),
        args.mount_point.display()
    );

    let _logging = init_logging(args.logging_config()).context("failed to initialize logging")?;
    let _metrics =
        metrics::install(None).map_err(|e| anyhow!("Failed to initialize metrics: {e}"))?;
    if let Some(path) = std::env::var_os("UNSTABLE_MOUNTPOINT_PID_FILE") {
        std::fs::write(path, std::process::id().to_string())
            .context("failed to write PID to file")?;
    }

    let session = mount(&args)?;
    println!("{mounted}");

    // Ends when the file system is unmounted, or on SIGTERM, SIGINT or SIGHUP after trying to
    // unmount it. As officially, a busy mount stays behind, dead, and the exit code is 0 even so.
    session.join().context("failed to join session")
}

fn mount(args: &CliArgs) -> anyhow::Result<FuseSession> {
    tracing::info!(target: LOG_TARGET, "mount-s3 {VERSION}");
    tracing::debug!(target: LOG_TARGET, "{args:?}");

    // The order is the official one: the first thing that is wrong is the one that is told.
    let fuse_session_config = args.fuse_session_config()?;
    let sse = args.server_side_encryption()?;
    let memory_limit = args.memory_limit();
    let client_config = args.client_config(memory_limit)?;
    let pool = PagedPool::config()
        .with_candidate_sizes([
            CandidateSize::prunable(CACHE_BLOCK_SIZE),
            CandidateSize::prunable(client_config.part_config.read_size_bytes),
            CandidateSize::new(client_config.part_config.write_size_bytes),
        ])
        .with_memory_limit(memory_limit.bytes())
        .with_maintenance_interval(Duration::from_secs(60))
        .build();

    let s3_path = args.s3_path()?;
    let bucket = s3_path.bucket_description();
    // Lists the bucket once: this is where a wrong bucket, region, key or endpoint shows.
    let client = client_config
        .create_client(pool.clone(), Some(&s3_path))
        .context("Failed to create S3 client")?;
    let runtime = Runtime::new(client.event_loop_group());
    let personality = S3Personality::infer_from_bucket(&s3_path.bucket, &client.endpoint_config());

    let filesystem_config = args.filesystem_config(sse, personality);
    let mut data_cache_config = args.data_cache_config();
    let cache_dir = manage_cache_dir(&mut data_cache_config)?;
    let mount_point = fuse_session_config.mount_point().to_string();
    let superblock = Superblock::new(
        client.clone(),
        s3_path,
        SuperblockConfig {
            cache_config: filesystem_config.cache_config.clone(),
            s3_personality: filesystem_config.s3_personality,
        },
    );
    let mut session =
        MountpointConfig::new(fuse_session_config, filesystem_config, data_cache_config)?
            .create_fuse_session(superblock, client, runtime, pool)?;
    tracing::info!(target: LOG_TARGET, "successfully mounted {bucket} at {mount_point}");
    if let Some(cache_dir) = cache_dir {
        session.run_on_close(Box::new(move || drop(cache_dir)));
    }
    Ok(session)
}

/// A cache directory of this mount's own under the one given, emptied at the start and the end.
fn manage_cache_dir(config: &mut DataCacheConfig) -> anyhow::Result<Option<ManagedCacheDir>> {
    let Some(disk) = &mut config.disk_cache_config else {
        return Ok(None);
    };
    let keep = std::env::var_os("UNSTABLE_MOUNTPOINT_DISABLE_CACHE_CLEANUP")
        .is_some_and(|v| v.eq_ignore_ascii_case("TRUE") || v == "1");
    let key = std::env::var_os("UNSTABLE_MOUNTPOINT_CACHE_KEY");
    let dir = ManagedCacheDir::new_from_parent_with_cache_key(
        &disk.cache_directory,
        key.as_deref(),
        !keep,
    )
    .context("failed to create cache directory")?;
    disk.cache_directory = dir.as_path_buf();
    Ok(Some(dir))
}
