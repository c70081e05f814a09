//! Two gateways that forward to one engine, behind a balancer.

use super::*;

pub struct Pair<'a> {
    engine: &'a Running,
    key: PathBuf,
    config: PathBuf,
    /// Where their AWS doors are.
    aws: &'static str,
    balancer: Balancer,
    gateways: Vec<Running>,
}

impl<'a> Pair<'a> {
    /// A pair that is ready, and the address of the balancer before its doors called `door`.
    pub async fn before(
        engine: &'a Running,
        folder: &Path,
        (door, aws): (&'static str, &'static str),
    ) -> (Self, String) {
        let (balancer, address) = Balancer::over(2, door).await;
        let mut pair = Self {
            engine,
            key: folder.join("key"),
            config: folder.join("gateway.toml"),
            aws,
            balancer,
            gateways: Vec::new(),
        };
        fs::write(&pair.key, [7; 32]).unwrap();
        fs::write(&pair.config, CONFIG).unwrap();
        for index in 0..2 {
            let gateway = pair.start(index).await;
            pair.balancer.put(index, Some(&gateway));
            pair.gateways.push(gateway);
        }
        for index in 0..2 {
            pair.ready(index).await;
        }
        (pair, address)
    }

    /// Stops one in order, and starts another in its place.
    pub async fn restart(&mut self, index: usize) {
        let before = &mut self.gateways[index];
        before.terminate();
        let status = before.ended().await;
        let log = before.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("still in flight"), "{log}");
        self.balancer.put(index, None);
        let gateway = self.start(index).await;
        self.balancer.put(index, Some(&gateway));
        self.gateways[index] = gateway;
        self.ready(index).await;
    }

    async fn start(&self, index: usize) -> Running {
        let name = ["first", "second"][index];
        let mut command = forward(self.engine, &self.key, name, self.aws);
        command.arg("--config").arg(&self.config);
        Running::started(command).await
    }

    async fn ready(&self, index: usize) {
        eventually("the balancer sees it ready", || async {
            self.balancer.is_ready(index).then_some(())
        })
        .await;
    }
}
