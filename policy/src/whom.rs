//! Whom a policy speaks about: its `from`, compiled.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use crate::caller::Caller;
use crate::caller_match::{CallerKind, CallerMatch};
use crate::compile::error::{CompileError, CompileErrors};
use crate::pattern;

const MAX_MATCHES: usize = 64;
const MAX_CLAIMS: usize = 16;
/// As long as the longest of them: an issuer.
const MAX_PATTERN_CHARACTERS: usize = 512;

/// Whom a policy speaks about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whom(Option<Vec<Entry>>);

/// One entry of `from`, and how it is told.
#[derive(Clone, Debug)]
struct Entry {
    takes: Match,
    name: Arc<str>,
}

/// What an entry of `from` takes. What is missing takes everything.
#[derive(Clone, Debug)]
enum Match {
    ServiceAccount { namespace: Option<String>, name: Option<String> },
    Jwt { issuer: Option<String>, subject: Option<String>, claims: BTreeMap<String, Value> },
    Key { name: Option<String> },
    Anonymous { network: Option<Network> },
}

impl Whom {
    /// Compiles a `from`; without one, a policy speaks about everyone. Errors name the field, from `from` down.
    pub fn compile(from: Option<&[CallerMatch]>) -> Result<Self, CompileErrors> {
        let Some(from) = from else { return Ok(Self(None)) };
        let mut errors = Vec::new();
        if from.len() > MAX_MATCHES {
            errors.push(error("from", format!("has {} entries; at most {MAX_MATCHES} are allowed", from.len())));
        }
        let mut matches = Vec::with_capacity(from.len());
        for (i, entry) in from.iter().enumerate() {
            match entry.compile() {
                Ok(takes) => matches.push(Entry { takes, name: entry.to_string().into() }),
                Err(wrong) => errors.extend(wrong.into_iter().map(|(field, message)| error(format!("from[{i}]{field}"), message))),
            }
        }
        if errors.is_empty() { Ok(Self(Some(matches))) } else { Err(CompileErrors(errors)) }
    }

    /// Whether the policy is in force for this caller.
    pub(crate) fn includes(&self, caller: &Caller) -> bool {
        self.0.is_none() || self.entry(caller).is_some()
    }

    /// The first entry that takes this caller, as the policy's author wrote it; none without a `from`.
    pub(crate) fn entry(&self, caller: &Caller) -> Option<&Arc<str>> {
        self.0.as_ref()?.iter().find(|entry| entry.takes.takes(caller)).map(|entry| &entry.name)
    }

    /// Whether an entry says so, and not merely that there is no `from`.
    pub(crate) fn names(&self, caller: &Caller) -> bool {
        self.entry(caller).is_some()
    }
}

impl CallerMatch {
    /// What is wrong with it: fields, each with a dot before it, and messages.
    fn compile(&self) -> Result<Match, Vec<(String, String)>> {
        let Self { kind, namespace, name, issuer, subject, claims, address } = self;
        let mut errors = Vec::new();
        let fields = [
            ("namespace", namespace, &[CallerKind::ServiceAccount][..]),
            ("name", name, &[CallerKind::ServiceAccount, CallerKind::Key]),
            ("issuer", issuer, &[CallerKind::Jwt]),
            ("subject", subject, &[CallerKind::Jwt]),
            ("address", address, &[CallerKind::Anonymous]),
        ];
        for (field, value, kinds) in fields {
            let Some(value) = value else { continue };
            let characters = value.chars().count();
            if !kinds.contains(kind) {
                errors.push((format!(".{field}"), format!("means nothing of a caller of kind {}", kind.as_str())));
            } else if characters == 0 || characters > MAX_PATTERN_CHARACTERS {
                errors.push((format!(".{field}"), format!("has from 1 to {MAX_PATTERN_CHARACTERS} characters; `*` takes every one")));
            }
        }
        if !claims.is_empty() && *kind != CallerKind::Jwt {
            errors.push((".claims".to_owned(), format!("means nothing of a caller of kind {}", kind.as_str())));
        }
        if claims.len() > MAX_CLAIMS {
            errors.push((".claims".to_owned(), format!("has {} entries; at most {MAX_CLAIMS} are allowed", claims.len())));
        }
        // Who forgets one of these lets in more than they meant.
        if *kind == CallerKind::ServiceAccount && name.is_some() && namespace.is_none() {
            errors.push((
                ".namespace".to_owned(),
                "is required beside `name`: each namespace has an account of that name; `*` takes all".to_owned(),
            ));
        }
        if *kind == CallerKind::Jwt && issuer.is_none() && (subject.is_some() || !claims.is_empty()) {
            errors.push((
                ".issuer".to_owned(),
                "is required beside `subject` and `claims`: each issuer has its own; `*` takes all".to_owned(),
            ));
        }
        let network = match address.as_deref().map(Network::parse).transpose() {
            Ok(network) => network,
            Err(message) => {
                errors.push((".address".to_owned(), message));
                None
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(match kind {
            CallerKind::ServiceAccount => Match::ServiceAccount { namespace: namespace.clone(), name: name.clone() },
            CallerKind::Jwt => Match::Jwt { issuer: issuer.clone(), subject: subject.clone(), claims: claims.clone() },
            CallerKind::Key => Match::Key { name: name.clone() },
            CallerKind::Anonymous => Match::Anonymous { network },
        })
    }
}

/// As the callers' names are written, with the patterns in place of what they match.
impl fmt::Display for CallerMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name, issuer, subject, claims, address } = self;
        let or_any = |pattern: &Option<String>| pattern.clone().unwrap_or_else(|| "*".to_owned());
        match kind {
            CallerKind::ServiceAccount => write!(f, "serviceaccount:{}/{}", or_any(namespace), or_any(name)),
            CallerKind::Jwt => write!(f, "jwt:{}#{}", or_any(issuer), or_any(subject)),
            CallerKind::Key => write!(f, "key:{}", or_any(name)),
            CallerKind::Anonymous => write!(f, "anonymous:{}", or_any(address)),
        }?;
        for (claim, wanted) in claims {
            write!(f, " {claim}={wanted}")?;
        }
        Ok(())
    }
}

impl Match {
    fn takes(&self, caller: &Caller) -> bool {
        let fits = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| pattern::matches(wanted, found));
        match (self, caller) {
            (Self::ServiceAccount { namespace, name }, Caller::ServiceAccount { namespace: of, name: account }) => {
                fits(namespace, of) && fits(name, account)
            }
            (Self::Jwt { issuer, subject, claims }, Caller::Jwt { issuer: by, subject: about, claims: said }) => {
                fits(issuer, by)
                    && fits(subject, about)
                    && claims.iter().all(|(claim, wanted)| said.get(claim).is_some_and(|found| claim_fits(wanted, found)))
            }
            (Self::Key { name }, Caller::Key { name: holder }) => fits(name, holder),
            (Self::Anonymous { network }, Caller::Anonymous { address }) => network.is_none_or(|network| network.contains(*address)),
            _ => false,
        }
    }
}

/// Whether a claim is what an entry wants: a string is a pattern, an object wants each of its members, everything else is equal as
/// JSON. Of a list that the token has, one element suffices.
fn claim_fits(wanted: &Value, found: &Value) -> bool {
    match (wanted, found) {
        (_, Value::Array(elements)) if elements.iter().any(|element| claim_fits(wanted, element)) => true,
        (Value::String(wanted), Value::String(found)) => pattern::matches(wanted, found),
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().all(|(name, wanted)| found.get(name).is_some_and(|found| claim_fits(wanted, found)))
        }
        (wanted, found) => wanted == found,
    }
}

/// An address, or all that begin alike.
#[derive(Clone, Copy, Debug)]
struct Network {
    /// IPv4 is never written as IPv6.
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither an IP address nor a CIDR like 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = |address: IpAddr| if address.is_ipv4() { 32_u32 } else { 128 };
        let prefix: u32 = match prefix {
            None => bits(written),
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if prefix > bits(written) {
            return Err(wrong());
        }
        // IPv4 in IPv6 is read as IPv4, where the prefix reaches into it.
        let address = written.to_canonical();
        let network = match prefix.checked_sub(bits(written) - bits(address)) {
            Some(prefix) => Self { address, prefix },
            None => Self { address: written, prefix },
        };
        let first = network.first();
        if first != network.address {
            return Err(format!("`{text}` has bits beyond its prefix; the network is {first}/{}", network.prefix));
        }
        Ok(network)
    }

    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & !u32::MAX.checked_shr(self.prefix).unwrap_or(0)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::MAX.checked_shr(self.prefix).unwrap_or(0)).into()),
        }
    }

    fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && Self { address, ..self }.first() == self.address
    }
}

fn error(path: impl Into<String>, message: impl Into<String>) -> CompileError {
    CompileError { path: path.into(), message: message.into() }
}
