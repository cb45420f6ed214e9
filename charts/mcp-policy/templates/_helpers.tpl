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

{{/* CEL: whether a selector of params selects the labels in the given variable. Takes {selector, labels}: a field of spec, a variable. */}}
{{- define "mcp-policy.selects" -}}
{{- $selector := printf "params.spec.%s" .selector -}}
{{- $labels := printf "variables.%s" .labels -}}
(!has({{ $selector }}.matchLabels) || {{ $selector }}.matchLabels.all(k,
  k in {{ $labels }} && {{ $labels }}[k] == {{ $selector }}.matchLabels[k])) &&
(!has({{ $selector }}.matchExpressions) || {{ $selector }}.matchExpressions.all(e,
  e.operator == 'Exists' ? e.key in {{ $labels }} :
  e.operator == 'DoesNotExist' ? !(e.key in {{ $labels }}) :
  e.operator == 'In' ? e.key in {{ $labels }} && {{ $labels }}[e.key] in e.?values.orValue([]) :
  !(e.key in {{ $labels }} && {{ $labels }}[e.key] in e.?values.orValue([]))))
{{- end }}

{{/*
Refuses to install or upgrade where a custom resource is not defined, or was defined less than 30 seconds ago: until an API server
has learnt of the kind, an admission policy with that paramKind makes it deny every pod (kubernetes/kubernetes#124237). Without a
cluster (`helm template`, `helm lint`) lookup finds nothing, and there is nothing to break.
*/}}
{{- define "mcp-policy.requireDefinitions" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" }}
{{- range $kind, $name := dict "McpPolicy" "mcppolicies" "ClusterMcpPolicy" "clustermcppolicies" }}
{{- $definition := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" (printf "%s.mcp-policy.dev" $name) }}
{{- if not $definition }}
{{- fail (printf "%s is not defined in this cluster. Install or upgrade the chart mcp-policy-crds first." $kind) }}
{{- end }}
{{- $made := toDate "2006-01-02T15:04:05Z" $definition.metadata.creationTimestamp | unixEpoch | int64 }}
{{- $age := sub (now | unixEpoch | int64) $made }}
{{/* A negative age is a wrong clock: no reason to refuse. */}}
{{- if and (ge $age 0) (lt $age 30) }}
{{- fail (printf "%s was defined %d s ago, and API servers need up to 30 s to learn of it. Until then the admission policy would deny every pod of the cluster. Try again in %d s." $kind $age (sub 30 $age)) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
