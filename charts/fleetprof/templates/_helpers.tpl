{{/*
All objects are named "fleetprof…", whatever the name of the release: CRDs and APIService are cluster-scoped, so there can
only be one fleetprof per cluster, and messages and documentation can refer to its roles by name. A second release fails on
the first cluster-scoped object that it does not own.
*/}}

{{/* Common labels. */}}
{{- define "fleetprof.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: fleetprof
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Labels of an object that Prometheus or Grafana select; takes (root, additional labels). Those of the chart stay. */}}
{{- define "fleetprof.monitoringLabels" -}}
{{- merge (include "fleetprof.labels" (index . 0) | fromYaml) (index . 1) | toYaml }}
{{- end }}

{{/* Labels that select the pods of a component; takes (root, component). They never change: selectors are immutable. */}}
{{- define "fleetprof.selector" -}}
app.kubernetes.io/name: fleetprof
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Full name of an image; takes (root, values of the image). */}}
{{- define "fleetprof.image" -}}
{{- $image := index . 1 -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end }}

{{/* Ports of the cluster's DNS, for network policies. */}}
{{- define "fleetprof.dnsPorts" -}}
{{- range .Values.networkPolicy.dnsPorts }}
- {protocol: UDP, port: {{ . }}}
- {protocol: TCP, port: {{ . }}}
{{- end }}
{{- end }}

{{/* Name of the Secret with the serving certificate. */}}
{{- define "fleetprof.tlsSecret" -}}
{{ .Values.tls.existingSecret | default "fleetprof-tls" }}
{{- end }}

{{/* Name of the Secret with the credentials of the alert receiver. */}}
{{- define "fleetprof.alertsSecret" -}}
{{ .Values.alerts.existingSecret | default "fleetprof-alerts" }}
{{- end }}

{{/* What can be read of a session: the views of operator/controller/src/data_api/views.rs, whose test holds this list to them. */}}
{{- define "fleetprof.views" -}}
[profilesessions/profile, profilesessions/top, profilesessions/flamegraph, profilesessions/folded, profilesessions/diff]
{{- end }}

{{/* Whether only one pod at a time can mount the results volume. */}}
{{- define "fleetprof.exclusiveVolume" -}}
{{- if and .Values.results.persistence.enabled (eq .Values.results.accessMode "ReadWriteOnce") (le (int .Values.operator.replicas) 1) }}yes{{ end }}
{{- end }}

{{/* Rejects conflicting values, which the schema cannot detect. */}}
{{- define "fleetprof.check" -}}
{{- $r := .Values.results }}
{{- if and $r.persistence.enabled (not $r.existingClaim) (eq $r.accessMode "ReadWriteOnce") (gt (int .Values.operator.replicas) 1) }}
{{- fail "operator.replicas is more than 1, but results.accessMode is ReadWriteOnce: a second replica could not mount the volume on another node. Set results.accessMode=ReadWriteMany with a storage class that supports it, or results.existingClaim, or operator.replicas=1, or results.persistence.enabled=false with destinations.default in an object store." }}
{{- end }}
{{- if and $r.existingClaim (not $r.persistence.enabled) }}
{{- fail "results.existingClaim is set, but results.persistence.enabled is false: the claim would not be used. Set results.persistence.enabled=true, or clear results.existingClaim." }}
{{- end }}
{{- if and $r.medium $r.persistence.enabled }}
{{- fail "results.medium is set, but results.persistence.enabled is true: the medium only applies to an emptyDir. Clear results.medium, or set results.persistence.enabled=false." }}
{{- end }}
{{- if eq .Release.Namespace "kube-system" }}
{{- fail "fleetprof cannot be installed in kube-system: it excludes that namespace from profiling and keeps its certificates out of it. Install it with -n fleetprof --create-namespace." }}
{{- end }}
{{- end }}

{{/* The file with the operator's configuration; empty where there is none. */}}
{{- define "fleetprof.config" -}}
{{- if .Values.destinations }}
destinations:
  {{- range $name, $destination := .Values.destinations }}
  {{- $settings := omit $destination "existingSecret" }}
  {{- if $destination.existingSecret }}
  {{- $settings = set $settings "credentials" (printf "/etc/fleetprof/credentials/%s" $name) }}
  {{- end }}
  {{ $name }}: {{ $settings | toJson }}
  {{- end }}
{{- end }}
{{- if .Values.notifications }}
notifications:
  {{- range $name, $receiver := .Values.notifications }}
  {{ $name }}: {{ set (omit $receiver "existingSecret") "credentials" (printf "/etc/fleetprof/receivers/%s" $name) | toJson }}
  {{- end }}
{{- end }}
{{- with .Values.links }}
links: {{ . | toJson }}
{{- end }}
{{- $server := .Values.symbols.debuginfod }}
{{- $uploads := .Values.symbols.uploads.size }}
{{- if or .Values.symbols.existingClaim $server.url (ne $uploads "0") }}
symbols:
  {{- if .Values.symbols.existingClaim }}
  volume: /var/lib/fleetprof-symbols
  {{- end }}
  {{- if $server.url }}
  {{- $settings := omit $server "existingSecret" }}
  {{- if $server.existingSecret }}
  {{- $settings = set $settings "credentials" "/etc/fleetprof/debuginfod" }}
  {{- end }}
  debuginfod: {{ $settings | toJson }}
  {{- end }}
  uploads: {{ dict "size" $uploads | toJson }}
{{- end }}
{{- $quotas := .Values.results.quotas }}
{{- if or $quotas.default $quotas.namespaces }}
quotas:
  {{- with $quotas.default }}
  default: {{ . | toJson }}
  {{- end }}
  namespaces: {{ $quotas.namespaces | toJson }}
{{- end }}
{{- end }}

{{/* Name of the ConfigMap with the operator's configuration. */}}
{{- define "fleetprof.configName" -}}
fleetprof-config-{{ include "fleetprof.config" . | sha256sum | trunc 8 }}
{{- end }}

{{/* Environment variables of both the operator and the webhook. */}}
{{- define "fleetprof.env" -}}
- name: FLEETPROF_NAME
  value: fleetprof
- name: FLEETPROF_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: FLEETPROF_AGENT_IMAGE
  value: {{ include "fleetprof.image" (list . .Values.image.agent) | quote }}
{{- with .Values.image.agent.allowed }}
- name: FLEETPROF_ALLOWED_AGENT_IMAGES
  value: {{ join "," . | quote }}
{{- end }}
- name: FLEETPROF_AGENT_RESOURCES
  value: {{ .Values.agent.resources | toJson | quote }}
- name: FLEETPROF_DEFAULT_POD_SECURITY
  value: {{ .Values.podSecurity.default }}
{{- if .Values.agent.allowRoot }}
- name: FLEETPROF_AGENT_ALLOW_ROOT
  value: "true"
{{- end }}
{{- if .Values.nodeAgent.enabled }}
- name: FLEETPROF_NODE_AGENTS
  value: "true"
- name: FLEETPROF_NODE_AGENT_NAMESPACES
  value: {{ join "," .Values.nodeAgent.namespaces | quote }}
{{- end }}
- name: FLEETPROF_AGENT_PULL_POLICY
  value: {{ .Values.image.agent.pullPolicy }}
{{- with .Values.tls.existingSecret }}
- name: FLEETPROF_TLS_SECRET
  value: {{ . | quote }}
{{- end }}
- name: FLEETPROF_LOG
  value: {{ .Values.logLevel | quote }}
{{- end }}

{{/* Annotations of a pod; takes (root, values of the component). */}}
{{- define "fleetprof.podAnnotations" -}}
{{- $base := dict }}
{{- if (index . 0).Values.metrics.annotations }}
{{- $base = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8080" "prometheus.io/path" "/metrics" }}
{{- end }}
{{- with merge (deepCopy (index . 1).podAnnotations) $base }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Scheduling of a component's pods; takes the values of the component. */}}
{{- define "fleetprof.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* Container security context; complies with Pod Security restricted. */}}
{{- define "fleetprof.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Container probes. Liveness is independent of readiness: a pod that waits for the API server is not restarted. */}}
{{- define "fleetprof.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 3
  failureThreshold: 2
{{- end }}
