{{/* Name of the operator's Deployment, Service and ServiceAccount. Fixed: it is in certificates, tokens and every sidecar. */}}
{{- define "mcp-policy.operator" -}}
mcp-policy-operator
{{- end }}

{{/* Where sidecars find the operator. The admission policy compares it with what a pod says. */}}
{{- define "mcp-policy.operatorUrl" -}}
https://{{ include "mcp-policy.operator" . }}.{{ .Release.Namespace }}.svc:443
{{- end }}

{{- define "mcp-policy.selectorLabels" -}}
app.kubernetes.io/name: mcp-policy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "mcp-policy.labels" -}}
app.kubernetes.io/name: mcp-policy
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* The reference of an image. Takes {image, root}. */}}
{{- define "mcp-policy.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "mcp-policy.sidecarImage" -}}
{{ include "mcp-policy.image" (dict "image" .Values.sidecar.image "root" .) }}
{{- end }}

{{/*
Namespaces that are never governed, as a JSON list: a mistake there could stop the cluster, or keep the operator from starting
because it is down.
*/}}
{{- define "mcp-policy.ungoverned" -}}
{{ concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.excludedNamespaces | uniq | toJson }}
{{- end }}

{{/* CEL: whether params' selector selects a pod with the labels in the given variable. Takes the variable's name. */}}
{{- define "mcp-policy.selects" -}}
(!has(params.spec.selector.matchLabels) || params.spec.selector.matchLabels.all(k,
  k in variables.{{ . }} && variables.{{ . }}[k] == params.spec.selector.matchLabels[k])) &&
(!has(params.spec.selector.matchExpressions) || params.spec.selector.matchExpressions.all(e,
  e.operator == 'Exists' ? e.key in variables.{{ . }} :
  e.operator == 'DoesNotExist' ? !(e.key in variables.{{ . }}) :
  e.operator == 'In' ? e.key in variables.{{ . }} && variables.{{ . }}[e.key] in e.?values.orValue([]) :
  !(e.key in variables.{{ . }} && variables.{{ . }}[e.key] in e.?values.orValue([]))))
{{- end }}

{{/*
Refuses to install where the custom resource is not defined, or was defined less than 30 seconds ago: until an API server has
learnt of the kind, an admission policy with that paramKind makes it deny every pod (kubernetes/kubernetes#124237). Without a
cluster (`helm template`, `helm lint`) lookup finds nothing, and there is nothing to break.
*/}}
{{- define "mcp-policy.requireDefinition" -}}
{{- if and .Release.IsInstall (lookup "v1" "Namespace" "" "kube-system") }}
{{- $definition := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" "mcppolicies.mcp-policy.dev" }}
{{- if not $definition }}
{{- fail "McpPolicy is not defined in this cluster. Install the chart mcp-policy-crds first." }}
{{- end }}
{{- $made := toDate "2006-01-02T15:04:05Z" $definition.metadata.creationTimestamp | unixEpoch | int64 }}
{{- $age := sub (now | unixEpoch | int64) $made }}
{{/* A negative age is a wrong clock: no reason to refuse. */}}
{{- if and (ge $age 0) (lt $age 30) }}
{{- fail (printf "McpPolicy was defined %d s ago, and API servers need up to 30 s to learn of it. Until then the admission policy would deny every pod of the cluster. Try again in %d s." $age (sub 30 $age)) }}
{{- end }}
{{- end }}
{{- end }}
