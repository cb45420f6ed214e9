//! What there is to exercise in a policy, so that whoever tests it can tell what no call has reached yet.

use crate::compiled::{CompiledRule, Policy, methods_verdict};
use crate::document::{Action, DefaultAction, MethodAction};
use crate::pointer::escape;

/// One thing that a policy says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// JSON pointer (RFC 6901) into the document, as steps and decisions have it.
    pub pointer: String,
    /// Whether it can refuse. What can is exercised when it has refused; what cannot when it was reached.
    pub refuses: bool,
}

impl Policy {
    /// Everything that a call or a method can be judged by, by pointer. Empty for a policy of which nothing was ever accepted.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let Some(rules) = &self.rules else { return Vec::new() };
        let mut points = vec![Point { pointer: "/default".to_owned(), refuses: rules.default == DefaultAction::Deny }];
        points.extend((0..rules.hide.len()).map(|i| Point { pointer: format!("/hide/{i}"), refuses: true }));
        for rule in rules.exact.values().chain(rules.globs.iter().map(|glob| &glob.rule)) {
            // An entry that refuses every call is exercised by its action.
            points.extend((!rule.action.refuses()).then(|| Point { pointer: rule.pointer.clone(), refuses: false }));
            points.extend(checks(rule));
        }
        points.extend(rules.all_tools.iter().flat_map(checks));
        points.extend(
            rules
                .methods
                .iter()
                .map(|(key, action)| Point { pointer: format!("/methods/{}", escape(key)), refuses: *action == MethodAction::Deny }),
        );
        points.sort();
        // Limits that share a counter within one rule share their pointer.
        points.dedup();
        points
    }

    /// Pointer to the entry of `methods` that holds for a method.
    #[must_use]
    pub fn method_point(&self, method: &str) -> Option<String> {
        let rules = self.rules.as_ref()?;
        methods_verdict(&rules.methods, method).map(|(key, _)| format!("/methods/{}", escape(key)))
    }
}

/// What a rule can refuse by. Beside an action that refuses, nothing else ever acts.
fn checks(rule: &CompiledRule) -> Vec<Point> {
    let pointer = &rule.pointer;
    let pointers = if rule.action.refuses() {
        vec![format!("{pointer}/action")]
    } else {
        let approve = (rule.action == Action::Approve).then(|| format!("{pointer}/action"));
        let bytes = rule.max_bytes.map(|_| format!("{pointer}/arguments/maxBytes"));
        let schema = rule.schema.as_ref().map(|_| format!("{pointer}/arguments/schema"));
        let require = (0..rule.require.len()).map(|i| format!("{pointer}/require/{i}"));
        let deny_if = (0..rule.deny_if.len()).map(|i| format!("{pointer}/denyIf/{i}"));
        let approve_if = (0..rule.approve_if.len()).map(|i| format!("{pointer}/approveIf/{i}"));
        let limits = rule.limits.iter().map(|limit| limit.pointer.clone());
        approve.into_iter().chain(bytes).chain(schema).chain(require).chain(deny_if).chain(approve_if).chain(limits).collect()
    };
    pointers.into_iter().map(|pointer| Point { pointer, refuses: true }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::compile::compile;
    use crate::policy_id::PolicyId;

    fn policy(document: serde_json::Value) -> Policy {
        compile(PolicyId::new(None, "p"), &serde_json::from_value(document).unwrap()).unwrap()
    }

    #[test]
    fn every_part_that_can_be_told_is_a_point() {
        let condition = json!({"path": "args.a", "op": "exists"});
        let policy = policy(json!({
            "hide": ["x"],
            "allTools": {"rateLimit": {"max": 1, "window": 1}},
            "tools": {
                "a/b": {
                    "arguments": {"maxBytes": 1, "schema": {}},
                    "require": [condition, condition],
                    "denyIf": [{"conditions": [condition]}],
                    "limits": [{"counter": "c", "window": 1, "max": 1}],
                },
                "g*": {"action": "deny", "require": [condition]},
                "h": {"action": "approve", "approveIf": [{"conditions": []}]},
            },
            "methods": {"ping": "deny", "tools/*": "allow"},
        }));
        let points: Vec<_> = policy.points().into_iter().map(|point| (point.pointer, point.refuses)).collect();
        let expected = [
            ("/allTools/rateLimit", true),
            ("/default", true),
            ("/hide/0", true),
            ("/methods/ping", true),
            ("/methods/tools~1*", false),
            ("/tools/a~1b", false),
            ("/tools/a~1b/arguments/maxBytes", true),
            ("/tools/a~1b/arguments/schema", true),
            ("/tools/a~1b/denyIf/0", true),
            ("/tools/a~1b/limits/c", true),
            ("/tools/a~1b/require/0", true),
            ("/tools/a~1b/require/1", true),
            ("/tools/g*/action", true),
            ("/tools/h", false),
            ("/tools/h/action", true),
            ("/tools/h/approveIf/0", true),
        ];
        assert_eq!(points, expected.map(|(pointer, refuses)| (pointer.to_owned(), refuses)));
        assert_eq!(policy.method_point("tools/list").as_deref(), Some("/methods/tools~1*"));
        assert_eq!(policy.method_point("initialize"), None);
        assert_eq!(Policy::refusing(PolicyId::new(None, "p")).points(), []);
    }
}
