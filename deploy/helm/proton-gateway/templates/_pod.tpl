{{/* How a probe asks: (dict "root" $ "ready" bool). Alive is also who drains, or lacks what it needs. */}}
{{- define "gateway.probe" -}}
{{- $kind := include "gateway.probeKind" .root }}
{{- if and (eq $kind "grpc") .ready }}
grpc:
  port: {{ .root.Values.doors.grpc.port }}
{{- else if eq $kind "http" }}
httpGet:
  path: {{ ternary "/readyz" "/livez" .ready }}
  port: admin
{{- else }}
exec:
  command:
    - /usr/local/bin/proton-gateway
    - --admin-listen=127.0.0.1:{{ .root.Values.metrics.port }}
    - health
    {{- if not .ready }}
    - --live
    {{- end }}
{{- end }}
{{- end }}

{{/* The Secrets that are mounted below /etc/proton-gateway/secrets, each once. */}}
{{- define "gateway.secrets" -}}
{{- $names := .Values.extraSecrets }}
{{- range .Values.authentication.accessKeys }}
{{- $names = append $names .secretName }}
{{- end }}
{{- $names | uniq | sortAlpha | toYaml }}
{{- end }}

{{/* The pod, the same in both modes but for where it keeps things. */}}
{{- define "gateway.pod" -}}
{{- $forward := eq .Values.mode "forward" }}
{{- $tls := and .Values.tls.secretName (not .Values.insecure) }}
{{- $kubernetes := and .Values.authentication.kubernetes.enabled (not .Values.insecure) }}
{{- $secrets := include "gateway.secrets" . | fromYamlArray }}
metadata:
  labels:
    {{- include "gateway.selector" . | nindent 4 }}
    app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
    app.kubernetes.io/component: {{ .Values.mode }}
    {{- with .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # Another configuration is another pod. Policies and Secrets are read again as they are.
    checksum/config: {{ include "gateway.configuration" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "gateway.serviceAccountName" . }}
  # What it needs of the account is projected below.
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: gateway
      image: {{ include "gateway.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: ["--config", "/etc/proton-gateway/config/gateway.toml"]
      {{- $credentials := and $forward .Values.forward.credentialsSecret }}
      {{- $ca := and $forward .Values.forward.caConfigMap }}
      {{- if or $credentials $ca .Values.extraEnv }}
      env:
        {{- if $credentials }}
        {{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
        - name: {{ . }}
          valueFrom:
            secretKeyRef:
              name: {{ $.Values.forward.credentialsSecret }}
              key: {{ . }}
        {{- end }}
        {{- end }}
        {{- if $ca }}
        - name: SSL_CERT_FILE
          value: /etc/proton-gateway/upstream/ca.crt
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - name: grpc
          containerPort: {{ .Values.doors.grpc.port }}
        {{- if .Values.doors.aws.enabled }}
        - name: aws
          containerPort: {{ .Values.doors.aws.port }}
        {{- end }}
        {{- if .Values.metrics.enabled }}
        - name: admin
          containerPort: {{ .Values.metrics.port }}
        {{- end }}
      startupProbe:
        {{- include "gateway.probe" (dict "root" . "ready" true) | trim | nindent 8 }}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      readinessProbe:
        {{- include "gateway.probe" (dict "root" . "ready" true) | trim | nindent 8 }}
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      livenessProbe:
        {{- include "gateway.probe" (dict "root" . "ready" false) | trim | nindent 8 }}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/proton-gateway/config, readOnly: true}
        - {name: state, mountPath: /var/lib/proton-gateway}
        - {name: tmp, mountPath: /tmp}
        {{- if not $forward }}
        {{- range $index, $bucket := .Values.engine.buckets }}
        - {name: bucket-{{ $index }}, mountPath: /etc/proton-gateway/buckets/{{ $bucket.name }}, readOnly: true}
        {{- end }}
        {{- end }}
        {{- if $tls }}
        - {name: tls, mountPath: /etc/proton-gateway/tls, readOnly: true}
        {{- end }}
        {{- if .Values.policies }}
        - {name: policies, mountPath: /etc/proton-gateway/policies, readOnly: true}
        {{- end }}
        {{- if .Values.resumeToken.secretName }}
        - {name: resume, mountPath: /etc/proton-gateway/resume, readOnly: true}
        {{- end }}
        {{- if .Values.idempotency.secretName }}
        - {name: idempotency, mountPath: /etc/proton-gateway/idempotency, readOnly: true}
        {{- end }}
        {{- if $ca }}
        - {name: upstream, mountPath: /etc/proton-gateway/upstream, readOnly: true}
        {{- end }}
        {{- if $kubernetes }}
        - {name: account, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
        {{- end }}
        {{- range $index, $name := $secrets }}
        - {name: secret-{{ $index }}, mountPath: /etc/proton-gateway/secrets/{{ $name }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "gateway.fullname" . }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if $forward }}
    - name: state
      emptyDir: {sizeLimit: {{ .Values.forward.ledgerSize }}}
    {{- else if not .Values.persistence.enabled }}
    - name: state
      emptyDir: {}
    {{- else if .Values.persistence.existingClaim }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim }}
    {{- end }}
    {{- if not $forward }}
    {{- range $index, $bucket := .Values.engine.buckets }}
    - name: bucket-{{ $index }}
      {{- if $bucket.configMap }}
      configMap:
        name: {{ $bucket.configMap }}
      {{- else }}
      persistentVolumeClaim:
        claimName: {{ $bucket.existingClaim }}
        readOnly: true
      {{- end }}
    {{- end }}
    {{- end }}
    {{- if $tls }}
    - name: tls
      secret:
        secretName: {{ .Values.tls.secretName }}
        defaultMode: 0440
    {{- end }}
    {{- if .Values.policies }}
    - name: policies
      configMap:
        name: {{ include "gateway.fullname" . }}-policies
    {{- end }}
    {{- if .Values.resumeToken.secretName }}
    - name: resume
      secret:
        secretName: {{ .Values.resumeToken.secretName }}
        defaultMode: 0440
    {{- end }}
    {{- if .Values.idempotency.secretName }}
    - name: idempotency
      secret:
        secretName: {{ .Values.idempotency.secretName }}
        defaultMode: 0440
    {{- end }}
    {{- if $ca }}
    - name: upstream
      configMap:
        name: {{ .Values.forward.caConfigMap }}
    {{- end }}
    {{- if $kubernetes }}
    - name: account
      projected:
        defaultMode: 0440
        sources:
          - serviceAccountToken: {path: token, expirationSeconds: 3600}
          - configMap:
              name: kube-root-ca.crt
              items: [{key: ca.crt, path: ca.crt}]
    {{- end }}
    {{- range $index, $name := $secrets }}
    - name: secret-{{ $index }}
      secret:
        secretName: {{ $name }}
        defaultMode: 0440
    {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if $forward }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "gateway.selector" $ | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
