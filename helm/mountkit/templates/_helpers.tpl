{{- /* The name of all objects. Room is left for the Job's revision, and for the index and hash of a pod. */ -}}
{{- define "mountkit.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "mountkit.jobName" -}}
{{- include "mountkit.fullname" . -}}{{- if .Values.job.revisionInName -}}-r{{ .Release.Revision }}{{- end -}}
{{- end -}}

{{- define "mountkit.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "mountkit.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- /* What the pods of a run are found by. */ -}}
{{- define "mountkit.selectorLabels" -}}
app.kubernetes.io/name: mountkit
app.kubernetes.io/instance: {{ include "mountkit.fullname" . }}
app.kubernetes.io/component: trainer
{{- end -}}

{{- /* Of objects other than pods: call with (dict "root" . "component" "…"). */ -}}
{{- define "mountkit.labels" -}}
app.kubernetes.io/name: mountkit
app.kubernetes.io/instance: {{ include "mountkit.fullname" .root }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Whether the release is a run, and not the FUSE device plugin alone. */ -}}
{{- define "mountkit.run" -}}
{{- if not .Values.fuse.plugin.only -}}yes{{- end -}}
{{- end -}}

{{- /* Whether nothing is mounted: the run saves into a volume that is there already. */ -}}
{{- define "mountkit.direct" -}}
{{- if eq .Values.fuse.mode "none" -}}yes{{- end -}}
{{- end -}}

{{- define "mountkit.source" -}}
{{- if include "mountkit.direct" . -}}file://{{ .Values.target }}{{- else -}}{{ .Values.source }}{{- end -}}
{{- end -}}

{{- /* Whether the cache is on the volume that the run saves into: a pod that names a claim twice never starts. */ -}}
{{- define "mountkit.sharesClaim" -}}
{{- if and (include "mountkit.direct" .) (eq .Values.cache.type "pvc") (eq .Values.cache.existingClaim .Values.volume.existingClaim) -}}yes{{- end -}}
{{- end -}}

{{- /* The source, for people: in every pod that saves into a volume, its URL is the same. */ -}}
{{- define "mountkit.place" -}}
{{- if include "mountkit.direct" . -}}
{{- with .Values.volume.subPath -}}{{ . }} of {{ end -}}the claim {{ .Values.volume.existingClaim }}
{{- else -}}
{{- .Values.source -}}
{{- end -}}
{{- end -}}

{{- /* An image from repository, tag or variant, and digest: call with (dict "root" . "image" …). */ -}}
{{- define "mountkit.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default (printf "%s-%s" .root.Chart.AppVersion .image.variant | trimSuffix "-") }}
{{- end -}}
{{- end -}}

{{- /* From SIGTERM to SIGKILL. Never less than mountkit's own deadline and a margin. In a sidecar,
       that deadline begins only when the command has ended. */ -}}
{{- define "mountkit.terminationGracePeriodSeconds" -}}
{{- $grace := add (int64 .Values.drain.deadlineSeconds) (int64 .Values.drain.marginSeconds) -}}
{{- if eq .Values.fuse.mode "sidecar" -}}
{{- $grace = add $grace (int64 .Values.fuse.sidecar.commandSeconds) -}}
{{- end -}}
{{- $grace -}}
{{- end -}}

{{- /* A value as text: of a large number helm makes one with an exponent. */ -}}
{{- define "mountkit.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}

{{- define "mountkit.several" -}}
{{- if gt (int .Values.nodes) 1 -}}yes{{- end -}}
{{- end -}}

{{- define "mountkit.processesPerNode" -}}
{{- .Values.launcher.processesPerNode | default (max 1 (int .Values.gpu.count)) | int -}}
{{- end -}}

{{- /* What starts the ranks already, if the command does: torchrun, accelerate, …; "shell" may do anything. */ -}}
{{- define "mountkit.launcher" -}}
{{- $program := base (first .Values.command) -}}
{{- $module := "" -}}
{{- if and (hasPrefix "python" $program) (gt (len .Values.command) 2) (eq (toString (index .Values.command 1)) "-m") -}}
{{- $module = toString (index .Values.command 2) -}}
{{- end -}}
{{- if has $program (list "torchrun" "accelerate" "deepspeed" "mpirun" "horovodrun" "ray") -}}{{ $program }}
{{- else if or (hasPrefix "torch.distributed." $module) (eq $module "torch.distributed") -}}torchrun
{{- else if or (eq $module "accelerate") (hasPrefix "accelerate." $module) -}}accelerate
{{- else if or (eq $module "deepspeed") (hasPrefix "deepspeed." $module) -}}deepspeed
{{- else if has $program (list "sh" "bash" "dash" "ash" "zsh") -}}shell
{{- end -}}
{{- end -}}

{{- define "mountkit.manyRanks" -}}
{{- if or (include "mountkit.several" .) (gt (int (include "mountkit.processesPerNode" .)) 1) -}}yes{{- end -}}
{{- end -}}

{{- /* The command with what starts its ranks, as a YAML list. */ -}}
{{- define "mountkit.command" -}}
{{- $auto := and (eq .Values.launcher.mode "auto") (include "mountkit.manyRanks" .) (not (include "mountkit.launcher" .)) -}}
{{- if or (eq .Values.launcher.mode "torchrun") $auto -}}
{{- concat (list "torchrun" "--no-python") .Values.command | toYaml -}}
{{- else -}}
{{- .Values.command | toYaml -}}
{{- end -}}
{{- end -}}

{{- /* What the schema cannot say: refused with a sentence. */ -}}
{{- define "mountkit.check" -}}
{{- if not (or .Values.source (include "mountkit.direct" .)) -}}
{{- fail "source is missing: the bucket and prefix of this run. Give it: --set source=s3://bucket/run-1" -}}
{{- end -}}
{{- if not .Values.command -}}
{{- fail "command is missing: what trains, as a list of words. Give it: --set command='{python,train.py}'" -}}
{{- end -}}
{{- if eq .Values.fuse.mode "csi" -}}
{{- fail "fuse.mode csi is not supported: mountkit proves what goes through a mount that it made itself, and knows nothing of what is written to a volume of the Mountpoint CSI driver. A job there could end with exit code 0 and checkpoints that are not in the bucket. Use fuse.mode=devicePlugin with settings.backend=mountpoint: Mountpoint for S3, mounted and proven by mountkit." -}}
{{- end -}}
{{- if regexMatch "/[.]{1,2}(/|$)" .Values.target -}}
{{- fail (printf "target %s has a segment . or .., and where it leads to is not what it says. Write the path without: --set target=%s" .Values.target (clean .Values.target)) -}}
{{- end -}}
{{- if include "mountkit.direct" . -}}
{{- include "mountkit.checkVolume" . -}}
{{- else -}}
{{- include "mountkit.checkMount" . -}}
{{- end -}}
{{- $launcher := include "mountkit.launcher" . -}}
{{- if and (eq .Values.launcher.mode "auto") (include "mountkit.manyRanks" .) (eq $launcher "shell") -}}
{{- fail "command begins with a shell, and the chart cannot see whether that starts the ranks. If it does, set launcher.mode=none; if each of its ranks is to be this command, launcher.mode=torchrun." -}}
{{- end -}}
{{- if and (include "mountkit.several" .) (eq .Values.launcher.mode "auto") (has $launcher (list "accelerate" "deepspeed" "mpirun" "horovodrun" "ray")) -}}
{{- fail (printf "With nodes=%d, %s would start a training of its own in each pod, all of them writing one run. Give the command without it, which torchrun starts on all nodes: --set command='{python,train.py}'. If its own words tell it of the other nodes: launcher.mode=none." (int .Values.nodes) $launcher) -}}
{{- end -}}
{{- if and (include "mountkit.several" .) (not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "mountkit.fullname" .))) -}}
{{- fail (printf "With nodes=%d the release has a Service, and %q is no name for one: letters, digits and hyphens, a letter first. Give another: --set fullnameOverride=run-1" (int .Values.nodes) (include "mountkit.fullname" .)) -}}
{{- end -}}
{{- if and (eq .Values.cache.type "pvc") (include "mountkit.several" .) (not .Values.cache.existingClaim) (ne .Values.cache.accessMode "ReadWriteMany") -}}
{{- fail (printf "cache.type pvc with nodes=%d needs a claim that all of them can mount. Set cache.accessMode=ReadWriteMany with a StorageClass that has it, or cache.type=ephemeral." (int .Values.nodes)) -}}
{{- end -}}
{{- if and .Values.credentials.googleKey (not .Values.credentials.existingSecret) -}}
{{- fail "credentials.googleKey names a key of a Secret, and credentials.existingSecret is empty. Set credentials.existingSecret to the name of that Secret." -}}
{{- end -}}
{{- if and .Values.hostNetwork .Values.networkPolicy.enabled -}}
{{- fail "networkPolicy.enabled does not go with hostNetwork: a pod in the node's network has the node's address, and no policy of pods holds for it. Leave one of them out." -}}
{{- end -}}
{{- range .Values.env -}}
{{- if and (hasKey . "value") (regexMatch "(SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|CONNECTION_STRING|SAS_URL|_KEY|_KEY_ID)$" .name) (not (eq .name "GOOGLE_APPLICATION_CREDENTIALS")) -}}
{{- fail (printf "env %s looks like a secret, and a value here ends up in the release and in the Job for all to read. Put it into a Secret, and use valueFrom.secretKeyRef or credentials.existingSecret." .name) -}}
{{- end -}}
{{- if regexMatch "^MOUNTKIT_" .name -}}
{{- fail (printf "env %s is set by the chart. Use the value of that name, or settings." .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mountkit.checkMount" -}}
{{- range list "runAsUser" "runAsGroup" -}}
{{- if kindIs "invalid" (index $.Values.podSecurityContext .) -}}
{{- fail (printf "podSecurityContext.%s is null, which leaves it to the cluster, and fuse.mode %s mounts: fusermount3 asks for the name of its user, and one that the cluster chooses has none in the image's /etc/passwd. Leave it at 1000. Only with fuse.mode=none, which mounts nothing, may it be null." . $.Values.fuse.mode) -}}
{{- end -}}
{{- end -}}
{{- if or .Values.volume.existingClaim .Values.volume.subPath -}}
{{- fail (printf "volume is for a run that saves into a volume, without a mount, and fuse.mode %s mounts. Set fuse.mode=none, or leave volume out: extraVolumes has volumes for everything else." .Values.fuse.mode) -}}
{{- end -}}
{{- if has (dir .Values.target) (list "/" ".") -}}
{{- fail (printf "target %s lies in the root directory, which a volume would hide. Use a directory one level down: --set target=/mnt/output" .Values.target) -}}
{{- end -}}
{{- if or (has (dir .Values.target) (list "/tmp" "/dev/shm" "/var/cache/mountkit" "/run/mountkit" "/var/run/secrets/mountkit")) -}}
{{- fail (printf "target %s lies in a directory that the chart mounts already. Use one of its own: --set target=/mnt/output" .Values.target) -}}
{{- end -}}
{{- end -}}

{{- define "mountkit.checkVolume" -}}
{{- $source := include "mountkit.source" . -}}
{{- if not .Values.volume.existingClaim -}}
{{- fail "fuse.mode none mounts nothing: the run saves into a volume, and volume.existingClaim, which names its claim, is empty. Give it: --set volume.existingClaim=shared. For a bucket, use a fuse.mode that mounts, such as devicePlugin." -}}
{{- end -}}
{{- if and .Values.source (ne .Values.source $source) -}}
{{- fail (printf "source is %s, and with fuse.mode none it is the volume, as the pod sees it. Leave it out, or write --set source=%s. For a bucket, use a fuse.mode that mounts, such as devicePlugin." .Values.source $source) -}}
{{- end -}}
{{- if include "mountkit.several" . -}}
{{- fail (printf "nodes=%d does not go with fuse.mode none: all of them would save into one directory, and none could tell what it has written itself. Use nodes=1, or a bucket with a fuse.mode that mounts: there, each node has a mount of its own." (int .Values.nodes)) -}}
{{- end -}}
{{- if has .Values.settings.backend (list "rclone" "mountpoint") -}}
{{- fail (printf "settings.backend %s mounts, and with fuse.mode none nothing is mounted. Leave it out." .Values.settings.backend) -}}
{{- end -}}
{{- range list "/tmp" "/dev/shm" "/var/cache/mountkit" "/var/run/secrets/mountkit" -}}
{{- if or (hasPrefix (printf "%s/" .) (printf "%s/" $.Values.target)) (hasPrefix (printf "%s/" $.Values.target) (printf "%s/" .)) -}}
{{- fail (printf "target %s and %s, which the chart mounts already, lie in each other. Use one of its own: --set target=/mnt/output" $.Values.target .) -}}
{{- end -}}
{{- end -}}
{{- $made := printf "%s-cache" (include "mountkit.fullname" .) -}}
{{- if and (eq .Values.cache.type "pvc") (not .Values.cache.existingClaim) (eq $made .Values.volume.existingClaim) -}}
{{- fail (printf "volume.existingClaim is %s, the name of the claim that the chart makes for the cache. Give the claim, or the release, another name; or keep the cache on the same claim: --set cache.existingClaim=%s --set volume.subPath=run-1" $made $made) -}}
{{- end -}}
{{- if and (include "mountkit.sharesClaim" .) (not .Values.volume.subPath) -}}
{{- fail (printf "cache.existingClaim and volume.existingClaim are both %s: what mountkit keeps there for itself would lie among what it has to prove. Give the run a directory of its own, --set volume.subPath=run-1, or the cache another claim." .Values.volume.existingClaim) -}}
{{- end -}}
{{- range .Values.extraVolumes -}}
{{- $claim := (.persistentVolumeClaim | default dict).claimName | default "" -}}
{{- if eq $claim $.Values.volume.existingClaim -}}
{{- fail (printf "extraVolumes has the claim %s of the run once more, and a pod that names a claim twice never starts. Mount the run's own volume, output, in extraVolumeMounts." $claim) -}}
{{- end -}}
{{- if and $claim (eq $.Values.cache.type "pvc") (eq $claim $.Values.cache.existingClaim) -}}
{{- fail (printf "extraVolumes has the claim %s of the cache once more, and a pod that names a claim twice never starts. Mount the cache's own volume, cache, in extraVolumeMounts." $claim) -}}
{{- end -}}
{{- end -}}
{{- end -}}
