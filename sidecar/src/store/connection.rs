//! One connection to the server, or the servers, that a store's address means.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisFuture, RedisResult, TlsMode, Value,
};

use super::PATIENCE;
use super::address::{StoreAddress, Topology};

/// A connection that many use at once; a clone is another handle of it.
#[derive(Clone)]
pub(super) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    pub async fn open(address: &StoreAddress) -> RedisResult<Self> {
        match address.topology() {
            Topology::Standalone => Ok(Self::One(standalone(address).await?)),
            Topology::Sentinel(name) => Ok(Self::One(behind_sentinels(address, name).await?)),
            Topology::Cluster => Ok(Self::Cluster(cluster(address).await?)),
        }
    }

    /// Whether the same process answers as long as it is open. It does not connect again by itself then.
    pub fn is_to_one_process(&self) -> bool {
        matches!(self, Self::One(_))
    }
}

fn timed() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(4 * PATIENCE)).set_response_timeout(Some(4 * PATIENCE))
}

async fn standalone(address: &StoreAddress) -> RedisResult<MultiplexedConnection> {
    let credentials = address.credentials();
    let mut login = RedisConnectionInfo::default().set_db(address.database()).set_skip_set_lib_name();
    if let Some(username) = &credentials.username {
        login = login.set_username(username);
    }
    if let Some(password) = &credentials.password {
        login = login.set_password(password);
    }
    let node = address.nodes().into_iter().next().ok_or((redis::ErrorKind::InvalidClientConfig, "no host"))?;
    let info = node.into_connection_info()?.set_redis_settings(login);
    let client = match address.certificates() {
        Some(certificates) => Client::build_with_tls(info, certificates)?,
        None => Client::open(info)?,
    };
    client.get_multiplexed_async_connection_with_config(&timed()).await
}

async fn behind_sentinels(address: &StoreAddress, name: &str) -> RedisResult<MultiplexedConnection> {
    let credentials = address.credentials();
    let mut builder =
        SentinelClientBuilder::new(address.nodes(), name, SentinelServerType::Master)?.set_client_to_redis_db(address.database());
    if let Some(certificates) = address.certificates() {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_certificates(certificates);
    }
    if let Some(username) = &credentials.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &credentials.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &credentials.sentinel_username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &credentials.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder.build()?.get_async_connection_with_config(&timed()).await
}

async fn cluster(address: &StoreAddress) -> RedisResult<ClusterConnection> {
    let credentials = address.credentials();
    // Told the right node, it asks that one: twice at the most. Whoever waits longer gives up by itself.
    let mut builder = ClusterClientBuilder::new(address.nodes()).retries(2).connection_timeout(4 * PATIENCE).response_timeout(4 * PATIENCE);
    if let Some(certificates) = address.certificates() {
        builder = builder.tls(TlsMode::Secure).certs(certificates);
    }
    if let Some(username) = &credentials.username {
        builder = builder.username(username);
    }
    if let Some(password) = &credentials.password {
        builder = builder.password(password);
    }
    builder.build()?.get_async_connection().await
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, commands: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(commands, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
