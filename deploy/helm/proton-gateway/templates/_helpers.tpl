{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" }}
{{- end }}

{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" }}
{{- else if contains (include "gateway.name" .) .Release.Name }}
{{- .Release.Name | trunc 53 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "gateway.name" .) | trunc 53 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/component: {{ .Values.mode }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "gateway.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{- define "gateway.ports" -}}
- {name: grpc, port: {{ .Values.doors.grpc.port }}, targetPort: grpc, appProtocol: {{ ternary "kubernetes.io/h2c" "grpc" .Values.insecure }}}
{{- if .Values.doors.aws.enabled }}
- {name: aws, port: {{ .Values.doors.aws.port }}, targetPort: aws, appProtocol: {{ ternary "http" "https" .Values.insecure }}}
{{- end }}
{{- end }}

{{/* grpc, http or exec: how the kubelet asks whether the gateway is ready. */}}
{{- define "gateway.probeKind" -}}
{{- if ne .Values.probes.kind "auto" -}}
{{ .Values.probes.kind }}
{{- else if .Values.insecure -}}
grpc
{{- else if .Values.metrics.enabled -}}
http
{{- else -}}
exec
{{- end }}
{{- end }}

{{/* What contradicts itself, said before the cluster or the gateway has to. */}}
{{- define "gateway.check" -}}
{{- $forward := eq .Values.mode "forward" }}
{{- if not .Values.insecure }}
{{- if not .Values.tls.secretName }}
{{- fail "tls.secretName: name the Secret with the certificate, or set insecure to true" }}
{{- end }}
{{- if not (include "gateway.authentication" . | fromYaml) }}
{{- fail "authentication: nobody can prove who they are; configure authentication.kubernetes, authentication.accessKeys or config.authentication, or set insecure to true" }}
{{- end }}
{{- end }}
{{- $kind := include "gateway.probeKind" . }}
{{- if and (eq $kind "grpc") (not .Values.insecure) }}
{{- fail "probes.kind: the kubelet speaks no TLS, so it cannot ask the gRPC door; use auto, http or exec" }}
{{- end }}
{{- if and (eq $kind "http") (not .Values.metrics.enabled) }}
{{- fail "probes.kind: the admin page is on loopback, where the kubelet cannot ask it; set metrics.enabled, or use exec" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (not $forward) }}
{{- fail "autoscaling.enabled: the engine's store has one writer, so it has one pod; use mode forward" }}
{{- end }}
{{- if and .Values.metrics.serviceMonitor.enabled (not .Values.metrics.enabled) }}
{{- fail "metrics.serviceMonitor.enabled: there is nothing to scrape; set metrics.enabled" }}
{{- end }}
{{- if and .Values.idempotency.secretName (not $forward) }}
{{- fail "idempotency.secretName: the engine keeps keys in its own store; leave it out, or use mode forward" }}
{{- end }}
{{- $end := add .Values.shutdown.noticeSeconds .Values.shutdown.drainSeconds 3 }}
{{- if lt (int .Values.terminationGracePeriodSeconds) (int $end) }}
{{- fail (printf "terminationGracePeriodSeconds: shutdown.noticeSeconds and shutdown.drainSeconds want at least %d" $end) }}
{{- end }}
{{- end }}
