# For the scripts beside it, which source it. Expects: copy, the name of the copied admission policy that they try; group, the API
# group of the copied definitions.

passed=0 failed=0
# What stands in every denial that is meant.
denied_by="ValidatingAdmissionPolicy '$copy'"

# Defines copies of the custom resources, under other names: somebody who types `kubectl get mcpp` meanwhile must not meet them.
define_copies() {
  local file
  for file in ../../../crds/*.yaml; do
    echo ---
    sed "s/mcp-policy\.dev/$group/g; s/mcppolic/copiedpolic/g; s/mcpapproval/copiedapproval/g; s/^    - mcpp$/    - copied/; s/^    - mcpa$/    - copiedapproval/; s/^    - cmcpp$/    - clustercopied/; s/^    - mcp-policy$/    - copied-policy/" "$file"
  done | kubectl apply -f - >/dev/null
  # A definition of this very moment has no conditions at all, which kubectl takes for an error.
  for _ in 1 2 3 4 5; do
    kubectl wait --for=condition=Established "crd/copiedpolicies.$group" "crd/clustercopiedpolicies.$group" "crd/copiedapprovals.$group" --timeout=60s >/dev/null && return
    sleep 0.5
  done
  return 1
}
forget_copies() { kubectl delete crd "copiedpolicies.$group" "clustercopiedpolicies.$group" "copiedapprovals.$group" --ignore-not-found >/dev/null; }

# verdict WANTED NAME PATTERN COMMAND...: runs the command and compares. WANTED is admit or deny; of a denial the message must match.
verdict() {
  local wanted=$1 name=$2 pattern=$3 output got=admit
  shift 3
  output=$("$@" 2>&1) || got=deny
  if [[ $got == deny && $output != *"$denied_by"* ]]; then got="error: $output"; fi
  if [[ $got == "$wanted" && ( $got == admit || $output =~ $pattern ) ]]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s: wanted %s (%s), got %s: %s\n' "$name" "$wanted" "$pattern" "$got" "$output"
  fi
}

# The API server checks the types of expressions by itself, and puts what it finds into the status.
no_type_warnings() {
  local warnings
  warnings=$(kubectl get validatingadmissionpolicy "$copy" -o jsonpath='{.status.typeChecking.expressionWarnings}')
  if [[ -n $warnings ]]; then failed=$((failed + 1)); echo "FAILED type check: $warnings"; else passed=$((passed + 1)); fi
}

# until_true COMMAND...: waits up to a minute for a condition.
until_true() {
  local end=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { echo "gave up waiting for: $*"; exit 1; }
    sleep 0.2
  done
}
