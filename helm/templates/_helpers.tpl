{{- define "trainyard.fullname" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}{{ $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}{{ end }}{{ end }}
{{- end }}

{{- define "trainyard.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "trainyard.labels" -}}
{{ include "trainyard.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "trainyard.serviceAccount" -}}
{{ default (include "trainyard.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "trainyard.keySecret" -}}
{{ default (printf "%s-controller-key" (include "trainyard.fullname" .)) .Values.controllerKey.existingSecret }}
{{- end }}

{{- /* An image: {image: …, name: …, version: …}. There is no default repository: nobody should run a stranger's image by mistake. */}}
{{- define "trainyard.image" -}}
{{- $repository := required (printf "%s.repository: say where the image is that the Dockerfile makes" .name) .image.repository }}
{{- if .image.digest }}{{ $repository }}@{{ .image.digest }}{{ else }}{{ $repository }}:{{ default .version .image.tag }}{{ end }}
{{- end }}

{{- /* OTEL_RESOURCE_ATTRIBUTES: NAME=VALUE,…, with the values percent-encoded (a + of urlquery is a space). */}}
{{- define "trainyard.resourceAttributes" -}}
{{- $pairs := list "k8s.namespace.name=$(POD_NAMESPACE)" "k8s.pod.name=$(POD_NAME)" }}
{{- range $name, $value := .Values.tracing.resourceAttributes }}
{{- $pairs = append $pairs (printf "%s=%s" $name ($value | urlquery | replace "+" "%20")) }}{{ end }}
{{- join "," $pairs }}
{{- end }}

{{- define "trainyard.topologyLevels" -}}
{{- $levels := list }}{{ range .Values.topologyLevels }}{{ $levels = append $levels (printf "%s=%s" .name .label) }}{{ end }}
{{- join "," $levels | default "none" }}
{{- end }}
