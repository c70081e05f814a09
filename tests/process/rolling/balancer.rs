//! What stands before gateways that are restarted.

use super::*;

/// How often a balancer looks at the health.
const LOOK: Duration = Duration::from_millis(25);

/// Sends each new connection to the next gateway that is ready, as a service of Kubernetes does: what is
/// connected stays so.
#[derive(Clone)]
pub struct Balancer {
    places: Arc<Mutex<Vec<Option<Place>>>>,
    /// To which of their doors.
    door: &'static str,
}

/// Where a gateway is.
#[derive(Clone)]
struct Place {
    door: String,
    admin: String,
    ready: bool,
}

impl Balancer {
    /// A balancer and its address.
    pub async fn over(gateways: usize, door: &'static str) -> (Self, String) {
        let balancer = Self {
            places: Arc::new(Mutex::new(vec![None; gateways])),
            door,
        };
        for index in 0..gateways {
            let balancer = balancer.clone();
            tokio::spawn(async move { balancer.look_at(index).await });
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let accepting = balancer.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let balancer = accepting.clone();
                tokio::spawn(async move { balancer.connect(client, number).await });
            }
        });
        (balancer, address)
    }

    pub fn put(&self, index: usize, gateway: Option<&Running>) {
        self.places.lock().unwrap()[index] = gateway.map(|gateway| Place {
            door: gateway.address(self.door).to_owned(),
            admin: gateway.address("admin").to_owned(),
            ready: false,
        });
    }

    pub fn is_ready(&self, index: usize) -> bool {
        let places = self.places.lock().unwrap();
        places[index].as_ref().is_some_and(|place| place.ready)
    }

    async fn look_at(&self, index: usize) {
        loop {
            let admin = self.places.lock().unwrap()[index]
                .clone()
                .map(|it| it.admin);
            if let Some(admin) = admin {
                let answer = page(&admin, "/readyz").await;
                let ready = answer.is_ok_and(|(code, _)| code == 200);
                let mut places = self.places.lock().unwrap();
                if let Some(place) = places[index].as_mut().filter(|it| it.admin == admin) {
                    place.ready = ready;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn connect(&self, mut client: tokio::net::TcpStream, number: usize) {
        let ready: Vec<_> = {
            let places = self.places.lock().unwrap();
            let ready = places.iter().flatten().filter(|place| place.ready);
            ready.map(|place| place.door.clone()).collect()
        };
        if ready.is_empty() {
            return;
        }
        let address = &ready[number % ready.len()];
        let Ok(mut gateway) = tokio::net::TcpStream::connect(address).await else {
            return;
        };
        for stream in [&client, &gateway] {
            stream.set_nodelay(true).unwrap();
        }
        // However it ends, both are closed.
        drop(tokio::io::copy_bidirectional(&mut client, &mut gateway).await);
    }
}
