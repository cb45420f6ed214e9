//! Pure: what is posted about an approval, and its signature.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::approvals::resource::McpApproval;

/// Of what is quoted in a message for people; the approval has the rest.
const MAX_QUOTED: usize = 2000;

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For programs: what the approval says, as JSON.
    #[default]
    Json,
    /// For people: a `text`, as Slack and who imitates it take it.
    Slack,
}

/// What is posted about an approval that people are asked for. Values of arguments are in it only where the policy shows them: what it does
/// not show is not in the approval.
#[must_use]
pub fn body(form: Form, approval: &McpApproval) -> String {
    match form {
        Form::Json => for_programs(approval),
        Form::Slack => json!({ "text": for_people(approval) }),
    }
    .to_string()
}

fn for_programs(approval: &McpApproval) -> Value {
    let (namespace, name) = approval.key();
    let spec = &approval.spec;
    json!({
        "type": "approval.requested",
        "timestamp": approval.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string()),
        "data": {
            "namespace": namespace,
            "name": name,
            "caller": spec.caller,
            "server": spec.server,
            "tool": spec.tool,
            "arguments": spec.arguments,
            "policy": spec.policy,
            "reason": spec.reason,
            "approvers": spec.approvers,
            "expiresAt": spec.expires_at,
        },
    })
}

fn for_people(approval: &McpApproval) -> String {
    let (namespace, name) = approval.key();
    let spec = &approval.spec;
    let mut text =
        format!("*{}* wants to call *{}* of *{}* in {namespace}.", quoted(&spec.caller), quoted(&spec.tool), quoted(&spec.server));
    if let Some(reason) = &spec.reason {
        text = format!("{text}\n{}", quoted(reason));
    }
    match (&spec.arguments.values, spec.arguments.keys.as_slice()) {
        (Some(values), _) => text = format!("{text}\nArguments: {}", quoted(values)),
        (None, []) => {}
        (None, keys) => text = format!("{text}\nArguments: {}", quoted(&keys.join(", "))),
    }
    let more = if spec.approvers > 1 { format!(" {} people must approve.", spec.approvers) } else { String::new() };
    format!("{text}\nUntil {}:{more} `kubectl mcp-policy approvals show {name} -n {namespace}`", spec.expires_at)
}

/// Words that others chose: none of them is markup, a link or a mention.
fn quoted(words: &str) -> String {
    let cut = &words[..words.floor_char_boundary(MAX_QUOTED)];
    let mut quoted = String::with_capacity(cut.len());
    for character in cut.chars() {
        match character {
            '&' => quoted.push_str("&amp;"),
            '<' => quoted.push_str("&lt;"),
            '>' => quoted.push_str("&gt;"),
            // So that nothing ends or begins a format.
            '*' | '_' | '~' | '`' => quoted.extend(['\u{200b}', character, '\u{200b}']),
            character if character.is_control() => quoted.push(' '),
            character => quoted.push(character),
        }
    }
    if cut.len() < words.len() { quoted + " …" } else { quoted }
}

/// The key with which messages are signed.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Reads it: `whsec_` and base64, as Standard Webhooks writes it, or any other text as it is.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let text = text.trim();
        let decoded = text.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok());
        Self(hmac::Key::new(hmac::HMAC_SHA256, decoded.as_deref().unwrap_or(text.as_bytes())))
    }

    /// The signature of a message with this id at this time, as Standard Webhooks wants it.
    #[must_use]
    pub fn sign(&self, id: &str, time: Timestamp, body: &str) -> String {
        let signature = hmac::sign(&self.0, format!("{id}.{}.{body}", time.as_second()).as_bytes());
        format!("v1,{}", STANDARD.encode(signature.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approvals::state::tests::approval;

    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        // The example of the specification's own libraries.
        let key = SigningKey::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        let time = Timestamp::from_second(1_614_265_330).unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_ne!(SigningKey::read("another").sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time, r#"{"test": 2432232314}"#), signature);
    }

    #[test]
    fn values_of_arguments_are_told_only_where_the_policy_shows_them() {
        let mut asked = approval(100);
        asked.spec.arguments.keys = vec!["amount".to_owned(), "to".to_owned()];
        for form in [Form::Json, Form::Slack] {
            assert!(body(form, &asked).contains("amount"), "{form:?}");
        }
        asked.spec.arguments.values = Some(r#"{"amount":1,"to":"bob"}"#.to_owned());
        for form in [Form::Json, Form::Slack] {
            assert!(body(form, &asked).contains("bob"), "{form:?}");
        }
    }

    #[test]
    fn nobody_can_put_a_link_a_mention_or_markup_into_a_message() {
        let mut asked = approval(100);
        asked.spec.tool = "<!channel> <http://evil|approve> `*_~\n".to_owned();
        asked.spec.reason = Some("x".repeat(9000));
        let said: Value = serde_json::from_str(&body(Form::Slack, &asked)).unwrap();
        let text = said["text"].as_str().unwrap();
        assert!(text.contains("&lt;!channel&gt;") && !text.contains('<') && !text.contains("`*"), "{text}");
        assert!(text.len() < 4000 && text.contains(" …"), "{text}");
    }
}
