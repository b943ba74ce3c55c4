{{- /* Credentials and the store: of every container that talks to it. */ -}}
{{- define "mountkit.storeEnv" -}}
{{- with .Values.store.endpointUrl }}
- name: MOUNTKIT_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.region }}
- name: MOUNTKIT_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .Values.credentials.googleKey }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: {{ printf "/var/run/secrets/mountkit/%s" . | quote }}
{{- end }}
{{- end -}}

{{- /* A proxy and a private CA are for whatever talks to the store, too, and not for the trainer alone. */ -}}
{{- define "mountkit.env" -}}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mountkit.envFrom" -}}
{{- with .Values.credentials.existingSecret }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- with .Values.envFrom }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mountkit.extraVolumeMounts" -}}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* What mountkit keeps for itself. Without a mount it tells which files a run has written, and the pod
       that comes next needs it; and as the URL of every such run is the same, the volume names it. */ -}}
{{- define "mountkit.ownEnv" -}}
{{- if include "mountkit.direct" . -}}
{{- $own := printf "/var/cache/mountkit/run-%s" (printf "%s/%s" .Values.volume.existingClaim .Values.volume.subPath | sha256sum | trunc 12) -}}
- name: MOUNTKIT_CACHE_DIR
  value: {{ $own }}/mounts
- name: MOUNTKIT_STATE_DIR
  value: {{ $own }}/state
{{- else -}}
- name: MOUNTKIT_CACHE_DIR
  value: /var/cache/mountkit/mounts
{{- end -}}
{{- end -}}

{{- /* Of the container that mounts, or saves into a volume itself. */ -}}
{{- define "mountkit.mountEnv" -}}
- name: MOUNTKIT_SOURCE
  value: {{ include "mountkit.source" . | quote }}
- name: MOUNTKIT_TARGET
  value: {{ .Values.target | quote }}
{{ include "mountkit.ownEnv" . }}
- name: MOUNTKIT_GRACE
  value: {{ .Values.drain.deadlineSeconds | int64 | quote }}
- name: MOUNTKIT_LISTEN
  value: {{ printf "%s:%d" .Values.health.host (int .Values.health.port) | quote }}
{{- include "mountkit.storeEnv" . }}
{{- if include "mountkit.several" . }}
- name: MOUNTKIT_NODE
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
{{- end }}
{{- include "mountkit.settingsEnv" . }}
{{- end -}}

{{- define "mountkit.settingsEnv" -}}
{{- range $name, $value := .Values.settings }}
- name: MOUNTKIT_{{ upper $name }}
  value: {{ include "mountkit.text" $value | quote }}
{{- end }}
{{- end -}}

{{- /* What the trainer's container is told of the time from SIGTERM on. The command has 60 % of it, and
       the rest is for the proof of what it wrote. */ -}}
{{- define "mountkit.trainerGrace" -}}
{{- if eq .Values.fuse.mode "sidecar" -}}
{{- $most := sub (int64 (include "mountkit.terminationGracePeriodSeconds" .)) (int64 .Values.drain.marginSeconds) -}}
{{- max 1 (min (div (mul (int64 .Values.fuse.sidecar.commandSeconds) 10) 6) $most) -}}
{{- else -}}
{{- .Values.drain.deadlineSeconds | int64 -}}
{{- end -}}
{{- end -}}

{{- /* torchrun's part of it: a little less, or mountkit would kill torchrun and leave its ranks. */ -}}
{{- define "mountkit.rankSeconds" -}}
{{- $share := div (mul (int64 (include "mountkit.trainerGrace" .)) 6) 10 -}}
{{- max 1 (sub $share (min 5 (add 1 (div $share 5)))) -}}
{{- end -}}

{{- /* Of the container that trains. HOME is a place that can be written to, whatever the image. */ -}}
{{- define "mountkit.trainerEnv" -}}
- name: HOME
  value: /tmp
- name: MOUNTKIT_RESUME
  value: {{ .Values.resume | quote }}
# A pod that is evicted has not come to its end, whatever the command made of SIGTERM.
- name: MOUNTKIT_STOPPED_CODE
  value: "143"
# How long torchrun leaves its ranks to save, from SIGTERM on: a little less than it has itself.
- name: TORCH_ELASTIC_SHUTDOWN_TIMEOUT
  value: {{ include "mountkit.rankSeconds" . | quote }}
- name: PET_NNODES
  value: {{ .Values.nodes | int64 | quote }}
- name: PET_NPROC_PER_NODE
  value: {{ include "mountkit.processesPerNode" . | quote }}
{{- if include "mountkit.several" . }}
- name: PET_NODE_RANK
  valueFrom:
    fieldRef:
      fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
- name: PET_MASTER_ADDR
  value: {{ printf "%s-0.%s" (include "mountkit.jobName" .) (include "mountkit.fullname" .) | quote }}
- name: PET_MASTER_PORT
  value: {{ .Values.launcher.port | int64 | quote }}
{{- end }}
{{- include "mountkit.env" . }}
{{- end -}}

{{- /* The group that Kubernetes gives the volumes to: all of a claim, with what others have there. So a shared
       volume has one only where it is asked for. */ -}}
{{- define "mountkit.fsGroup" -}}
{{- if not (kindIs "invalid" .Values.podSecurityContext.fsGroup) -}}
{{- .Values.podSecurityContext.fsGroup | int64 -}}
{{- else if not (include "mountkit.direct" .) -}}
1000
{{- end -}}
{{- end -}}

{{- /* Of a Secret's files. They are root's, and without a group of the volumes the run would be none of theirs. */ -}}
{{- define "mountkit.secretMode" -}}
{{- if include "mountkit.fsGroup" . -}}0440{{- else -}}0444{{- end -}}
{{- end -}}

{{- define "mountkit.podSecurityContext" -}}
{{- $context := .Values.podSecurityContext -}}
runAsNonRoot: {{ or (kindIs "invalid" $context.runAsUser) (gt (int64 $context.runAsUser) 0) }}
{{- range $name := list "runAsUser" "runAsGroup" }}
{{- $id := index $context $name }}
{{- if not (kindIs "invalid" $id) }}
{{ $name }}: {{ int64 $id }}
{{- end }}
{{- end }}
{{- with include "mountkit.fsGroup" . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
{{- with $context.supplementalGroups }}
supplementalGroups: {{ toJson . }}
{{- end }}
{{- with $context.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- /* Of a container that mounts. fusermount3 is setuid: the mount of an ordinary user needs a container
       in which a process may gain privileges, and SYS_ADMIN is the only one there is to gain. Where
       nothing is mounted, nothing is gained. */ -}}
{{- define "mountkit.mountSecurityContext" -}}
{{- if include "mountkit.direct" . -}}
{{- include "mountkit.plainSecurityContext" . -}}
{{- else -}}
{{- if eq .Values.fuse.mode "devicePlugin" -}}
privileged: false
allowPrivilegeEscalation: true
capabilities:
  drop: [ALL]
  add: [SYS_ADMIN]
{{- with .Values.fuse.appArmorProfile }}
appArmorProfile:
  type: {{ . }}
{{- end }}
{{- else -}}
privileged: true
allowPrivilegeEscalation: true
{{- end }}
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
{{- end -}}
{{- end -}}

{{- define "mountkit.plainSecurityContext" -}}
privileged: false
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: {{ .Values.readOnlyRootFilesystem }}
{{- end -}}

{{- /* Of the container that trains. A privileged one has every capability. */ -}}
{{- define "mountkit.trainerSecurityContext" -}}
{{- $kind := ternary "plain" "mount" (eq .Values.fuse.mode "sidecar") -}}
{{- $context := include (printf "mountkit.%sSecurityContext" $kind) . | fromYaml -}}
{{- if and .Values.extraCapabilities (not $context.privileged) -}}
{{- $_ := set $context.capabilities "add" (concat ($context.capabilities.add | default list) .Values.extraCapabilities | uniq) -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "mountkit.healthPorts" -}}
- name: health
  containerPort: {{ .Values.health.port | int64 }}
  protocol: TCP
{{- end -}}

{{- /* A mount that is being repaired is not ready, but alive; one that was given up is neither. */ -}}
{{- define "mountkit.probes" -}}
startupProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .Values.health.startupSeconds) 1) 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- /* The directory that the command saves into, or the one in which it is mounted. */ -}}
{{- define "mountkit.placeMount" -}}
{{- if include "mountkit.direct" . -}}
- name: output
  mountPath: {{ .Values.target | quote }}
{{- with .Values.volume.subPath }}
  subPath: {{ . | quote }}
{{- end }}
{{- else -}}
- name: mounts
  mountPath: {{ dir .Values.target | quote }}
{{- end }}
{{- end -}}

{{- define "mountkit.placeVolume" -}}
{{- if include "mountkit.direct" . -}}
- name: output
  persistentVolumeClaim:
    claimName: {{ .Values.volume.existingClaim }}
{{- else -}}
- name: mounts
  emptyDir: {}
{{- end }}
{{- end -}}

{{- define "mountkit.cacheMount" -}}
- name: {{ if include "mountkit.sharesClaim" . }}output{{ else }}cache{{ end }}
  mountPath: /var/cache/mountkit
{{- if and (eq .Values.cache.type "pvc") (include "mountkit.several" .) }}
  subPathExpr: node-$(MOUNTKIT_NODE)
{{- end }}
{{- end -}}

{{- define "mountkit.googleMount" -}}
{{- if .Values.credentials.googleKey }}
- name: google
  mountPath: /var/run/secrets/mountkit
  readOnly: true
{{- end }}
{{- end -}}

{{- define "mountkit.resources" -}}
{{- $limits := dict -}}
{{- if gt (int .Values.gpu.count) 0 -}}
{{- $_ := set $limits .Values.gpu.resource (int .Values.gpu.count) -}}
{{- end -}}
{{- if eq .Values.fuse.mode "devicePlugin" -}}
{{- $_ := set $limits .Values.fuse.resource 1 -}}
{{- end -}}
{{- $requests := dict -}}
{{- if and (eq .Values.cache.type "emptyDir") (not (include "mountkit.direct" .)) -}}
{{- $_ := set $requests "ephemeral-storage" .Values.cache.size -}}
{{- end -}}
{{- mergeOverwrite (dict "limits" $limits "requests" $requests) (deepCopy .Values.resources) | toYaml -}}
{{- end -}}

{{- define "mountkit.volumes" -}}
{{ include "mountkit.placeVolume" . }}
- name: scratch
  emptyDir: {{ if .Values.scratch.sizeLimit }}{ sizeLimit: {{ .Values.scratch.sizeLimit }} }{{ else }}{}{{ end }}
- name: shm
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.shm.size }}
{{- if not (include "mountkit.sharesClaim" .) }}
- name: cache
{{- if eq .Values.cache.type "emptyDir" }}
  emptyDir: {}
{{- else if eq .Values.cache.type "ephemeral" }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .Values.cache.storageClassName }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests:
            storage: {{ .Values.cache.size }}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ .Values.cache.existingClaim | default (printf "%s-cache" (include "mountkit.fullname" .)) }}
{{- end }}
{{- end }}
{{- if eq .Values.fuse.mode "sidecar" }}
- name: state
  emptyDir: {}
{{- end }}
{{- with .Values.credentials.googleKey }}
- name: google
  secret:
    secretName: {{ $.Values.credentials.existingSecret }}
    defaultMode: {{ include "mountkit.secretMode" $ }}
    items:
      - key: {{ . | quote }}
        path: {{ . | quote }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mountkit.scheduling" -}}
{{- if .Values.hostNetwork }}
hostNetwork: true
# The node's own DNS knows no Service of the cluster.
dnsPolicy: ClusterFirstWithHostNet
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- /* The containers that mount before the trainer: a preflight, for a sidecar that fails is started
       again for ever, and only a container that ends can end the Job; and the sidecar itself. */ -}}
{{- define "mountkit.sidecars" -}}
{{- $image := include "mountkit.image" (dict "root" . "image" .Values.fuse.sidecar) -}}
- name: preflight
  image: {{ $image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: {{ concat .Values.fuse.sidecar.entrypoint (list "doctor" "$(MOUNTKIT_SOURCE)") | toJson }}
  {{- include "mountkit.sidecarBody" . | nindent 2 }}
- name: mountkit
  image: {{ $image }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command: {{ concat .Values.fuse.sidecar.entrypoint (list "mount" "--foreground" "$(MOUNTKIT_SOURCE)" "$(MOUNTKIT_TARGET)") | toJson }}
  {{- include "mountkit.sidecarBody" . | nindent 2 }}
  ports:
    {{- include "mountkit.healthPorts" . | nindent 4 }}
  {{- if .Values.health.probes }}
  {{- include "mountkit.probes" . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "mountkit.sidecarBody" -}}
env:
  - name: HOME
    value: /tmp
  - name: MOUNTKIT_STATE_DIR
    value: /run/mountkit/state
  {{- include "mountkit.mountEnv" . | trim | nindent 2 }}
  {{- with include "mountkit.env" . | trim }}{{ . | nindent 2 }}{{ end }}
{{- with include "mountkit.envFrom" . | trim }}
envFrom:
  {{- . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "mountkit.mountSecurityContext" . | nindent 2 }}
resources:
  {{- toYaml .Values.fuse.sidecar.resources | nindent 2 }}
volumeMounts:
  - name: mounts
    mountPath: {{ dir .Values.target | quote }}
    mountPropagation: Bidirectional
  - name: scratch
    mountPath: /tmp
    subPath: sidecar
  - name: state
    mountPath: /run/mountkit
  {{- include "mountkit.cacheMount" . | nindent 2 }}
  {{- with include "mountkit.googleMount" . | trim }}{{ . | nindent 2 }}{{ end }}
  {{- with include "mountkit.extraVolumeMounts" . | trim }}{{ . | nindent 2 }}{{ end }}
{{- end -}}

{{- define "mountkit.trainer" -}}
{{- $sidecar := eq .Values.fuse.mode "sidecar" -}}
- name: trainer
  image: {{ include "mountkit.image" (dict "root" . "image" .Values.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with .Values.image.entrypoint }}
  command: {{ toJson . }}
  {{- end }}
  args:
    {{- include "mountkit.command" . | nindent 4 }}
  env:
    {{- if $sidecar }}
    # Without a source: the mount is there already.
    - name: MOUNTKIT_TARGET
      value: {{ .Values.target | quote }}
    - name: MOUNTKIT_STATE_DIR
      value: /run/mountkit/state
    - name: MOUNTKIT_CACHE_DIR
      value: /var/cache/mountkit/mounts
    {{- if include "mountkit.several" . }}
    - name: MOUNTKIT_NODE
      valueFrom:
        fieldRef:
          fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
    {{- end }}
    - name: MOUNTKIT_GRACE
      value: {{ include "mountkit.trainerGrace" . | quote }}
    {{- with include "mountkit.storeEnv" . | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with include "mountkit.settingsEnv" . | trim }}{{ . | nindent 4 }}{{ end }}
    {{- else }}
    {{- include "mountkit.mountEnv" . | trim | nindent 4 }}
    {{- end }}
    {{- include "mountkit.trainerEnv" . | nindent 4 }}
  {{- with include "mountkit.envFrom" . | trim }}
  envFrom:
    {{- . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "mountkit.trainerSecurityContext" . | nindent 4 }}
  resources:
    {{- include "mountkit.resources" . | nindent 4 }}
  ports:
    {{- if not $sidecar }}
    {{- include "mountkit.healthPorts" . | nindent 4 }}
    {{- end }}
    {{- if include "mountkit.several" . }}
    - name: rendezvous
      containerPort: {{ .Values.launcher.port | int64 }}
      protocol: TCP
    {{- end }}
  {{- if and .Values.health.probes (not $sidecar) }}
  {{- include "mountkit.probes" . | nindent 2 }}
  {{- end }}
  volumeMounts:
    {{- include "mountkit.placeMount" . | nindent 4 }}
      {{- if $sidecar }}
      mountPropagation: HostToContainer
      {{- end }}
    - name: scratch
      mountPath: /tmp
      {{- if $sidecar }}
      subPath: trainer
      {{- end }}
    - name: shm
      mountPath: /dev/shm
    {{- if $sidecar }}
    - name: state
      mountPath: /run/mountkit
    {{- end }}
    {{- include "mountkit.cacheMount" . | nindent 4 }}
    {{- with include "mountkit.googleMount" . | trim }}{{ . | nindent 4 }}{{ end }}
    {{- with include "mountkit.extraVolumeMounts" . | trim }}{{ . | nindent 4 }}{{ end }}
{{- end -}}

{{- define "mountkit.podSpec" -}}
serviceAccountName: {{ include "mountkit.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
enableServiceLinks: false
restartPolicy: Never
terminationGracePeriodSeconds: {{ include "mountkit.terminationGracePeriodSeconds" . }}
{{- if include "mountkit.several" . }}
subdomain: {{ include "mountkit.fullname" . }}
{{- end }}
{{- if eq .Values.fuse.mode "sidecar" }}
shareProcessNamespace: true
{{- end }}
securityContext:
  {{- include "mountkit.podSecurityContext" . | nindent 2 }}
{{- include "mountkit.scheduling" . }}
{{- $sidecar := eq .Values.fuse.mode "sidecar" }}
{{- if or .Values.initContainers $sidecar }}
initContainers:
  {{- with .Values.initContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- if $sidecar }}
  {{- include "mountkit.sidecars" . | nindent 2 }}
  {{- end }}
{{- end }}
containers:
  {{- include "mountkit.trainer" . | nindent 2 }}
volumes:
  {{- include "mountkit.volumes" . | nindent 2 }}
{{- end -}}
