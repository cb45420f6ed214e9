//! What is said to the store: three scripts, each one round trip and atomic, and how amounts and answers are written.

use std::sync::LazyLock;
use std::time::Duration;

use mcp_policy::document::OnStoreError;
use mcp_policy::{Found, Want};
use redis::aio::ConnectionLike;
use redis::{ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind};

/// How long those who remember counts that are gone have to say so: as many seconds as an idle sidecar needs at the most to look.
pub(super) const OBJECTION: Duration = Duration::from_secs(5);

/// One call in units of 10^-18.
const ONE: u128 = 1_000_000_000_000_000_000;
const NINE_DECIMALS: u128 = 1_000_000_000;

/// Said on each new connection.
pub static MEET: LazyLock<Script> = LazyLock::new(|| script(include_str!("meet.lua")));
/// Asks all counters of a call, and takes.
pub static TAKE: LazyLock<Script> = LazyLock::new(|| script(include_str!("take.lua")));
/// Gives back.
pub static REFUND: LazyLock<Script> = LazyLock::new(|| script(include_str!("refund.lua")));

/// What the store runs in one go.
#[derive(Debug)]
pub struct Script {
    /// The whole text.
    pub text: String,
    /// By which the store remembers it.
    digest: String,
}

fn script(body: &str) -> Script {
    let text = [include_str!("amounts.lua"), body].concat();
    Script { digest: redis::Script::new(&text).get_hash().to_owned(), text }
}

/// Names of keys. All of a sidecar's have one hash tag, so that a cluster keeps them on one node and a script can have them all.
#[derive(Clone, Debug)]
pub struct Keys(String);

impl Keys {
    /// Those of the servers in this namespace.
    #[must_use]
    pub fn of(namespace: &str) -> Self {
        // Without one: of a server that is guarded without a cluster. An empty tag would be none.
        Self(format!("mcp-policy:{{{}}}", if namespace.is_empty() { "-" } else { namespace }))
    }

    /// What is known of the counts.
    #[must_use]
    pub fn known(&self) -> &str {
        &self.0
    }

    /// A budget's.
    #[must_use]
    pub fn budget(&self, budget: &str) -> String {
        format!("{}:{budget}", self.0)
    }
}

/// What a call took, to be given back.
#[derive(Debug, Default)]
#[must_use = "give it to Store::refund if the tool certainly did not run; drop it on purpose otherwise"]
pub struct Receipt(pub(super) Vec<Taken>);

#[derive(Debug)]
pub(super) struct Taken {
    key: String,
    window: Duration,
    amount: u128,
    /// Microseconds of the store's clock.
    at: i64,
}

/// What the store found of each want, in the same order, and what was taken.
#[derive(Debug)]
pub struct Answer {
    /// In the order of the wants.
    pub found: Vec<Found>,
    /// What was taken.
    pub receipt: Receipt,
}

/// Runs a script, which the store keeps by its digest; the first time it is told the text.
pub(super) async fn run<T: FromRedisValue>(
    connection: &mut (impl ConnectionLike + Send),
    script: &Script,
    keys: &[impl AsRef<str>],
    arguments: &[String],
) -> RedisResult<T> {
    let command = |verb: &str, script: &str| {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        command.arg(arguments);
        command
    };
    match command("EVALSHA", &script.digest).query_async(connection).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            command("EVAL", &script.text).query_async(connection).await
        }
        answered => answered,
    }
}

/// Keys and arguments of `take.lua`. `run` is who serves on this connection; empty where that can change while it is open.
#[must_use]
pub fn take(keys: &Keys, run: &str, wants: &[Want]) -> (Vec<String>, Vec<String>) {
    let mut arguments = vec![run.to_owned(), OBJECTION.as_micros().to_string()];
    for want in wants {
        arguments.extend([
            want.window.as_micros().to_string(),
            amount(want.amount),
            amount(want.max),
            want.group.to_string(),
            u8::from(want.takes).to_string(),
            u8::from(want.on_store_error == OnStoreError::Deny).to_string(),
        ]);
    }
    (std::iter::once(keys.known().to_owned()).chain(wants.iter().map(|want| keys.budget(&want.budget))).collect(), arguments)
}

/// Reads the answer of `take.lua`: a state and a number for each want.
pub fn taken(keys: &Keys, wants: &[Want], answer: &[i64]) -> RedisResult<Answer> {
    let (states, rest) = answer.as_chunks::<2>();
    if !rest.is_empty() || states.len() != wants.len() {
        return Err(unexpected());
    }
    let (mut found, mut receipt) = (Vec::with_capacity(wants.len()), Vec::new());
    for (want, [state, number]) in wants.iter().zip(states) {
        let seconds = u64::try_from(*number).ok();
        found.push(match state {
            0 => Found::Room,
            1 => {
                let key = keys.budget(&want.budget);
                receipt.push(Taken { key, window: want.window, amount: want.amount, at: *number });
                Found::Room
            }
            2 => Found::Full { retry_after_seconds: seconds },
            3 => Found::Unknown { retry_after_seconds: seconds.unwrap_or(1) },
            _ => return Err(unexpected()),
        });
    }
    Ok(Answer { found, receipt: Receipt(receipt) })
}

/// Keys and arguments of `refund.lua`. `run` is as in [`take`].
#[must_use]
pub fn refund(keys: &Keys, run: &str, Receipt(taken): &Receipt) -> (Vec<String>, Vec<String>) {
    let each = taken.iter().flat_map(|one| [one.window.as_micros().to_string(), amount(one.amount), one.at.to_string()]);
    let arguments = std::iter::once(run.to_owned()).chain(each).collect();
    (std::iter::once(keys.known().to_owned()).chain(taken.iter().map(|one| one.key.clone())).collect(), arguments)
}

/// An amount as the scripts read it: the whole units, and the decimals in two groups of nine if there are any.
fn amount(units: u128) -> String {
    match (units / ONE, units % ONE) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{:09}.{:09}", rest / NINE_DECIMALS, rest % NINE_DECIMALS),
    }
}

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "the script answered something else").into()
}

/// Short name of what went wrong, for metrics.
pub(super) fn kind(error: &RedisError) -> &'static str {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => "denied",
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => "read_only",
        ErrorKind::Server(_) | ErrorKind::Extension => match error.code() {
            Some("OOM") => "full",
            Some("ANEW") => "restarted",
            Some("EVICTS") => "evicts",
            Some("NOAUTH" | "WRONGPASS") => "denied",
            _ => "refused",
        },
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => "unreadable",
        _ if error.is_timeout() => "timeout",
        _ => "disconnected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_exactly() {
        for (units, text) in [
            (0, "0"),
            (1, "0.000000000.000000001"),
            (ONE, "1"),
            (ONE + ONE / 4, "1.250000000.000000000"),
            (9_007_199_254_740_991 * ONE + 999_999_999_999_999_999, "9007199254740991.999999999.999999999"),
        ] {
            assert_eq!(amount(units), text);
        }
    }

    #[test]
    fn the_keys_of_a_sidecar_share_one_hash_tag_and_are_short() {
        let keys = Keys::of(&"n".repeat(63));
        assert_eq!(keys.budget("b"), format!("mcp-policy:{{{}}}:b", "n".repeat(63)));
        assert_eq!(Keys::of("").known(), "mcp-policy:{-}");
    }

    #[test]
    fn an_answer_of_another_shape_is_none() {
        let keys = Keys::of("ns");
        let want = Want {
            budget: "b".into(),
            window: OBJECTION,
            amount: ONE,
            max: ONE,
            group: 0,
            takes: true,
            on_store_error: OnStoreError::Deny,
        };
        for answer in [&[][..], &[0], &[9, 0], &[0, 0, 0, 0]] {
            assert!(taken(&keys, std::slice::from_ref(&want), answer).is_err(), "{answer:?}");
        }
        let answer = taken(&keys, &[want], &[2, -1]).unwrap();
        assert_eq!(answer.found, [Found::Full { retry_after_seconds: None }]);
    }
}
