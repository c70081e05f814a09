{{/* A value as TOML on one line. Numbers of values files are floats; those that are whole are meant as such. */}}
{{- define "gateway.toml" -}}
{{- if kindIs "map" . -}}
{ {{- range $index, $key := keys . | sortAlpha }}{{ if $index }}, {{ end }}{{ toJson $key }} = {{ include "gateway.toml" (get $ $key) }}{{ end -}} }
{{- else if kindIs "slice" . -}}
[{{- range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "gateway.toml" $item }}{{ end -}}]
{{- else if kindIs "string" . -}}
{{ toRawJson . }}
{{- else if and (kindIs "float64" .) (eq (float64 (int64 .)) .) -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{/* The section [authentication] that values ask for; empty where they ask for none. */}}
{{- define "gateway.authentication" -}}
{{- $own := dict }}
{{- $methods := list }}
{{- with .Values.authentication.kubernetes }}
{{- if .enabled }}
{{- $methods = append $methods "jwt" }}
{{- $grants := list }}
{{- range .grants }}
{{- $grants = append $grants (dict "claim" "/kubernetes.io/namespace" "value" .namespace "roles" .roles) }}
{{- end }}
{{- $cluster := "/var/run/secrets/kubernetes.io/serviceaccount" }}
{{- $issuer := dict
  "issuer" .issuer
  "audiences" (list .audience)
  "jwks-url" "https://kubernetes.default.svc/openid/v1/jwks"
  "ca-file" (printf "%s/ca.crt" $cluster)
  "bearer-token-file" (printf "%s/token" $cluster)
  "algorithms" (list "RS256" "ES256")
  "id" "{sub}"
  "attributes" (dict "namespace" "/kubernetes.io/namespace")
  "grants" $grants }}
{{- $_ := set $own "jwt" (dict "issuers" (list $issuer)) }}
{{- end }}
{{- end }}
{{- if .Values.authentication.accessKeys }}
{{- $methods = append $methods "access-key" }}
{{- $keys := list }}
{{- range .Values.authentication.accessKeys }}
{{- $keys = append $keys (dict
  "access-key-id" .accessKeyId
  "secret-file" (printf "/etc/proton-gateway/secrets/%s/%s" .secretName .secretKey)
  "id" .id
  "roles" .roles) }}
{{- end }}
{{- $_ := set $own "access-keys" $keys }}
{{- end }}
{{- if $methods }}
{{- $_ := set $own "methods" $methods }}
{{- end }}
{{- if .Values.insecure }}
{{- $own = dict }}
{{- end }}
{{- $asked := default (dict) .Values.config.authentication }}
{{- $all := mergeOverwrite $own (deepCopy $asked) }}
{{- if $all }}
{{- toYaml $all }}
{{- end }}
{{- end }}

{{/* The gateway's configuration file. */}}
{{- define "gateway.configuration" -}}
{{- $forward := eq .Values.mode "forward" }}
{{- $config := dict
  "listen" (printf "0.0.0.0:%d" (int .Values.doors.grpc.port))
  "aws-listen" (ternary (printf "0.0.0.0:%d" (int .Values.doors.aws.port)) "off" .Values.doors.aws.enabled)
  "admin-listen" (printf "%s:%d" (ternary "0.0.0.0" "127.0.0.1" .Values.metrics.enabled) (int .Values.metrics.port))
  "state-dir" (printf "/var/lib/proton-gateway/%s" (ternary "ledger" "state" $forward))
  "log-format" "json"
  "shutdown" (dict "notice" (printf "%ds" (int .Values.shutdown.noticeSeconds)) "drain" (printf "%ds" (int .Values.shutdown.drainSeconds))) }}
{{- if or .Values.insecure .Values.metrics.enabled }}
{{- $_ := set $config "insecure" true }}
{{- end }}
{{- if $forward }}
{{- $_ := set $config "upstream" "aws" }}
{{- with .Values.forward.endpointUrl }}{{ $_ := set $config "upstream-endpoint-url" . }}{{ end }}
{{- with .Values.forward.region }}{{ $_ := set $config "region" . }}{{ end }}
{{- with .Values.idempotency.secretName }}
{{- $_ := set $config "idempotency" (dict "secret-file" "/etc/proton-gateway/idempotency/ledger.key") }}
{{- end }}
{{- else }}
{{- $_ := set $config "upstream" "engine" }}
{{- $_ := set $config "region" .Values.engine.region }}
{{- $_ := set $config "account-id" .Values.engine.accountId }}
{{- $_ := set $config "buckets-dir" (ternary "/etc/proton-gateway/buckets" "/var/lib/proton-gateway/buckets" (gt (len .Values.engine.buckets) 0)) }}
{{- end }}
{{- if .Values.resumeToken.secretName }}
{{- $_ := set $config "resume-token-key-file" "/etc/proton-gateway/resume/resume-token.key" }}
{{- end }}
{{- if and .Values.tls.secretName (not .Values.insecure) }}
{{- $tls := dict
  "certificate-file" "/etc/proton-gateway/tls/tls.crt"
  "key-file" "/etc/proton-gateway/tls/tls.key"
  "client-certificates" .Values.tls.clientCertificates
  "minimum-version" .Values.tls.minimumVersion }}
{{- if ne .Values.tls.clientCertificates "none" }}
{{- $_ := set $tls "client-ca-file" "/etc/proton-gateway/tls/ca.crt" }}
{{- end }}
{{- $_ := set $config "tls" $tls }}
{{- end }}
{{- if .Values.policies }}
{{- $_ := set $config "authorization" (dict "policy-files" (list "/etc/proton-gateway/policies")) }}
{{- end }}
{{- $config = mergeOverwrite $config (deepCopy (omit .Values.config "authentication")) }}
{{- with include "gateway.authentication" . | fromYaml }}
{{- $_ := set $config "authentication" . }}
{{- end }}
{{- /* Keys first: what follows a section belongs to it. */}}
{{- range $key := keys $config | sortAlpha }}
{{- $value := get $config $key }}
{{- if not (kindIs "map" $value) }}
{{ $key }} = {{ include "gateway.toml" $value }}
{{- end }}
{{- end }}
{{- range $section := keys $config | sortAlpha }}
{{- $value := get $config $section }}
{{- if kindIs "map" $value }}

[{{ $section }}]
{{- range $key := keys $value | sortAlpha }}
{{ $key }} = {{ include "gateway.toml" (get $value $key) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
