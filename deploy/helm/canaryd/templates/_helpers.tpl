{{/* The name of everything: the release's. */}}
{{- define "canaryd.name" -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* The same for what is not in the release's namespace, where releases of other namespaces, and the plain manifests, have names too. */}}
{{- define "canaryd.wide" -}}
{{- printf "%s-%s" .Release.Namespace (include "canaryd.name" .) -}}
{{- end -}}

{{- define "canaryd.selector" -}}
app.kubernetes.io/name: canaryd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "canaryd.labels" -}}
{{ include "canaryd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
