//! Who sends one request, and how long that stands.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use mcp_policy::Caller;

use super::bearer::Bearer;
use super::reviews::GOOD_FOR;
use super::{Proved, Rejected, Seconds};
use crate::state::{Enforced, State};

/// Who sends a request. Of two requests on one connection each has its own.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who.
    pub caller: Caller,
    /// Why what was sent proves nothing, if nothing was proved where it could have been.
    pub rejected: Option<Rejected>,
    /// What proved it, to be asked again.
    proof: Option<(Bearer, Option<Seconds>)>,
}

impl Identity {
    /// Somebody at this address, who was not asked for a proof.
    #[must_use]
    pub fn anonymous(address: IpAddr) -> Self {
        Self { caller: Caller::anonymous(address), rejected: None, proof: None }
    }

    /// Who sends a request with these headers from this address; or why it has to prove more than it does. Where no policy that
    /// enforces asks for a proof, whoever proves nothing is anonymous.
    pub async fn of(state: &State, enforced: &Enforced, address: IpAddr, headers: &HeaderMap, now: Seconds) -> Result<Self, Rejected> {
        let anonymous = Self::anonymous(address);
        let Some(authenticator) = &enforced.authenticator else { return Ok(anonymous) };
        let proved = Bearer::of(headers).and_then(|bearer| {
            let Proved { caller, until } = authenticator.prove(&bearer, now)?;
            Ok(Self { caller, rejected: None, proof: Some((bearer, until)) })
        });
        let reviewed = match proved {
            Ok(proved) => proved.review(state, enforced).await.map(|()| proved),
            rejected => rejected,
        };
        let rejected = match reviewed {
            Ok(proved) => return Ok(proved),
            Err(rejected) => rejected,
        };
        // Who shows what is no proof meant to be somebody.
        let is_in_vain = authenticator.is_required() && rejected != Rejected::Missing;
        if is_in_vain || enforced.policies.shut_out(&anonymous.caller).is_some() {
            return Err(rejected);
        }
        Ok(Self { rejected: Some(rejected), ..anonymous })
    }

    /// Whether what is enforced now would find the same; or why not.
    pub fn recheck(&self, enforced: &Enforced, now: Seconds) -> Result<(), Rejected> {
        let Some(authenticator) = &enforced.authenticator else {
            return if self.proof.is_none() { Ok(()) } else { Err(Rejected::Issuer) };
        };
        match &self.proof {
            Some((bearer, _)) => authenticator.prove(bearer, now).and_then(|proved| {
                // A key that was another's in the meantime.
                if proved.caller == self.caller { Ok(()) } else { Err(Rejected::Key) }
            }),
            None if enforced.policies.shut_out(&self.caller).is_some() => Err(Rejected::Missing),
            None => Ok(()),
        }
    }

    /// Whether the API server vouches for the proof, where its word is wanted.
    async fn review(&self, state: &State, enforced: &Enforced) -> Result<(), Rejected> {
        let Some(audiences) = self.reviewed(enforced) else { return Ok(()) };
        let (Some((bearer, _)), Some(reviews)) = (&self.proof, state.reviews()) else { return Err(Rejected::Unreviewed) };
        // Rare, and of some size.
        Box::pin(reviews.confirm(bearer, audiences)).await
    }

    fn reviewed<'a>(&self, enforced: &'a Enforced) -> Option<&'a [String]> {
        enforced.authenticator.as_ref()?.reviewed(&self.caller)
    }

    /// Waits until it stands no longer: keys were changed or revoked, the API server does not vouch for it any more, or policies ask for
    /// more; or, if it `expires`, the proof has ended.
    #[must_use]
    pub fn ended(&self, state: &Arc<State>, expires: bool) -> ProofEnd {
        Box::pin(self.clone().stands(Arc::clone(state), expires))
    }

    async fn stands(self, state: Arc<State>, expires: bool) {
        // Before the first look, so that no change is missed.
        let mut changes = state.changes();
        loop {
            let enforced = state.enforced();
            match self.recheck(&enforced, now()) {
                Ok(()) => {}
                Err(Rejected::Expired) if !expires => {}
                Err(_) => return,
            }
            // What is open stays so while nobody can be asked.
            if self.review(&state, &enforced).await == Err(Rejected::Revoked) {
                return;
            }
            let again = async {
                match self.reviewed(&enforced) {
                    Some(_) => tokio::time::sleep(GOOD_FOR).await,
                    None => std::future::pending().await,
                }
            };
            let until = self.proof.as_ref().and_then(|(_, until)| *until).filter(|_| expires);
            let expiry = async {
                match until {
                    // The last moment is still one of it.
                    Some(until) => tokio::time::sleep(Duration::from_secs(until.saturating_sub(now()) + 1)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expiry => {}
                () = again => {}
                // The state that is held here tells of its changes for as long as it is.
                _ = changes.changed() => {}
            }
        }
    }
}

/// Waits until somebody is proved no longer.
pub type ProofEnd = Pin<Box<dyn Future<Output = ()> + Send>>;

/// This moment.
#[must_use]
pub fn now() -> Seconds {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
