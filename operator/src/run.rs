//! The whole operator: builds the parts, starts them, and ends them in order.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::OptionFuture;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::api::Api;
use kube::runtime::events::{Recorder, Reporter};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::approvals::desk::Desk;
use crate::approvals::known::Known;
use crate::approvals::notify::Notifier;
use crate::args::Config;
use crate::callers::Material;
use crate::controller::Controller;
use crate::distribute::{Distributor, Hub};
use crate::error::RunError;
use crate::events::Events;
use crate::leader::Leader;
use crate::metrics::{Metrics, PodState};
use crate::names::OPERATOR;
use crate::peers::Peers;
use crate::review::Reviewer;
use crate::tally::Tally;
use crate::tls::Served;
use crate::trust::{Keeper, Stored};
use crate::watch::Troubles;
use crate::webhook::Webhook;
use crate::world::World;
use crate::{admin, approvals, distribute, lease, server, tls, trust, webhook};

/// After SIGTERM: so long, requests still come, since endpoints take a moment to propagate.
const LAME: Duration = Duration::from_secs(3);

/// Runs the operator until SIGTERM or SIGINT. An error says that it cannot go on, and a new process should try.
pub async fn run(config: Config) -> Result<(), RunError> {
    let client = Client::try_default().await.map_err(|error| RunError::Client(Box::new(error)))?;
    let https = server::listen(config.https_port).await.map_err(|error| RunError::Listen(config.https_port, error))?;
    let plain = server::listen(config.admin_port).await.map_err(|error| RunError::Listen(config.admin_port, error))?;

    let metrics = Metrics::default();
    let world = Arc::new(World::new(config.ungoverned_namespaces.clone()));
    world.policies_mut().callers = Material::new(&config.callers, &config.namespace);
    let (hub, tally, served) = (Arc::<Hub>::default(), Arc::<Tally>::default(), Arc::<Served>::default());
    let troubles = Troubles::default();
    let (changed, world_changes) = watch::channel(());
    let (secret, stored) = watch::channel(Stored::default());
    let (leads_sender, leads) = watch::channel(false);
    let (draining, stop, resign) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());

    let mut essential = JoinSet::new();
    let controller = Controller {
        world: Arc::clone(&world),
        hub: Arc::clone(&hub),
        tally: Arc::clone(&tally),
        changed,
        metrics: metrics.clone(),
        troubles: troubles.clone(),
        store: config.store.clone().map(|store| (store, config.namespace.clone())),
        callers: config.callers.clone(),
    };
    essential.spawn(named("controller", controller.run(client.clone())));
    let follow = trust::follow(client.clone(), config.namespace.clone(), Arc::clone(&served), secret, metrics.clone());
    essential.spawn(named("certificates", follow));
    let peers = Peers {
        namespace: config.namespace.clone(),
        me: config.pod_name.clone(),
        port: config.https_port,
        token_file: config.token_file.clone(),
        tally: Arc::clone(&tally),
        stored: stored.clone(),
        metrics: metrics.clone(),
    };
    essential.spawn(named("peers", peers.run(client.clone())));
    let known = Arc::<Known>::default();
    essential.spawn(named("approvals", approvals::known::follow(client.clone(), Arc::clone(&known), metrics.clone())));
    let (notifier, posting) = config.notify.clone().map(|settings| Notifier::new(settings, metrics.clone())).unzip();
    essential.spawn(named("notifications", OptionFuture::from(posting).then(|_| std::future::pending())));
    let leadership = Leadership {
        notifier,
        known: Arc::clone(&known),
        config: config.clone(),
        client: client.clone(),
        world: Arc::clone(&world),
        hub: Arc::clone(&hub),
        tally: Arc::clone(&tally),
        changes: world_changes,
        stored,
        metrics: metrics.clone(),
    };
    essential.spawn(named("leadership", leadership.run(leads)));

    let health = admin::Health {
        world: Arc::clone(&world),
        hub: Arc::clone(&hub),
        served: Arc::clone(&served),
        troubles,
        draining: draining.clone(),
        metrics: metrics.clone(),
    };
    essential.spawn(named("admin", serve_admin(plain, health)));
    let desk = Desk { page: config.approval_page.clone(), ..Desk::new(client.clone(), Arc::clone(&world), known, stop.clone()) };
    let distributor = Distributor {
        desk,
        hub,
        tally,
        reviewer: Reviewer::new(client.clone()),
        namespace: config.namespace.clone(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    let router =
        webhook::router(Arc::new(Webhook { world, settings: config.injection, metrics })).merge(distribute::router(Arc::new(distributor)));
    let mut ending = JoinSet::new();
    ending.spawn(server::serve(https, tls::server_config(served), router, stop.clone()));
    let leases = Api::<Lease>::namespaced(client, &config.namespace);
    let me = config.pod_name.clone();
    let resigned = resign.clone();
    ending.spawn(async move { lease::take_part(leases, &me, leads_sender, resigned).await });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = config.namespace, pod = config.pod_name, "started");

    let ended = tokio::select! {
        () = terminated()? => None,
        Some(ended) = essential.join_next() => Some(ended),
        Some(ended) = ending.join_next() => Some(ended.map(|()| "server or lease")),
    };
    if let Some(ended) = ended {
        return Err(RunError::Ended(ended.unwrap_or("a task that panicked")));
    }
    tracing::info!("shutting down");
    draining.cancel();
    resign.cancel();
    sleep(LAME).await;
    stop.cancel();
    while ending.join_next().await.is_some() {}
    Ok(())
}

async fn serve_admin(listener: TcpListener, health: admin::Health) {
    if let Err(error) = axum::serve(listener, admin::router(Arc::new(health))).await {
        tracing::error!(%error, "the admin server ended");
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

fn terminated() -> Result<impl Future<Output = ()>, RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// What is done only while this replica leads.
struct Leadership {
    notifier: Option<Notifier>,
    known: Arc<Known>,
    config: Config,
    client: Client,
    world: Arc<World>,
    hub: Arc<Hub>,
    tally: Arc<Tally>,
    changes: watch::Receiver<()>,
    stored: watch::Receiver<Stored>,
    metrics: Metrics,
}

impl Leadership {
    async fn run(self, mut leads: watch::Receiver<bool>) {
        loop {
            if leads.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            self.metrics.leader.set(1);
            tokio::select! {
                () = self.lead() => {}
                // What is under way is dropped: from now on another replica may write.
                _ = leads.wait_for(|leads| !*leads) => {}
            }
            self.metrics.leader.set(0);
            self.metrics.set_pending_approvals(0, 0);
            for state in [PodState::Selected, PodState::Injected, PodState::Enforcing, PodState::Uncovered] {
                self.metrics.set_pods(state, 0);
            }
        }
    }

    async fn lead(&self) {
        let reporter = Reporter { controller: OPERATOR.to_owned(), instance: Some(self.config.pod_name.clone()) };
        let events = Events { recorder: Recorder::new(self.client.clone(), reporter), metrics: self.metrics.clone() };
        let leader = Leader {
            client: self.client.clone(),
            world: Arc::clone(&self.world),
            hub: Arc::clone(&self.hub),
            tally: Arc::clone(&self.tally),
            changed: self.changes.clone(),
            events: events.clone(),
            metrics: self.metrics.clone(),
        };
        let keeper = Keeper {
            client: self.client.clone(),
            namespace: self.config.namespace.clone(),
            lifetimes: self.config.lifetimes,
            world: Arc::clone(&self.world),
            changed: self.changes.clone(),
            stored: self.stored.clone(),
            metrics: self.metrics.clone(),
        };
        let approvals = approvals::keeper::Keeper {
            client: self.client.clone(),
            known: Arc::clone(&self.known),
            events,
            notifier: self.notifier.clone(),
            metrics: self.metrics.clone(),
        };
        tokio::join!(leader.run(), keeper.run(), approvals.run());
    }
}
