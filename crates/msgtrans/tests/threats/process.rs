//! The process itself in trouble: no descriptors, no processor, stopped for a while, a clock that is not to be trusted.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use msgtrans::{Packet, TransportClient, TransportServer};
use msgtrans_testkit::adversary::Wire;
use tokio::time::{Instant, interval, timeout};

use crate::stage::row;

/// Tells the child which it is.
const CHILD: &str = "MSGTRANS_THREATS_CHILD";

/// Not a row: what runs in a process of its own for the rows below. Without being asked to it does nothing.
#[test]
fn a_server_in_a_process_of_its_own() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let server = TransportServer::builder().with_protocol("tcp://127.0.0.1:0");
        let server = server.build().await.expect("bound");
        let _ =
            server.on_request(|_, request| async move { Ok(Packet::response(request.payload)) });
        server.start().expect("the first start");
        let port = server.local_endpoints()[0].port().expect("a port");
        #[expect(clippy::print_stdout, reason = "the parent waits for the port")]
        {
            println!("\nport {port}");
        }
        // Until the parent ends it.
        std::future::pending::<()>().await;
    });
}

/// A server in a process of its own, with so many descriptors.
struct Apart {
    child: Child,
    address: SocketAddr,
}

impl Apart {
    fn start(descriptors: u32) -> Self {
        let exe = std::env::current_exe().expect("this program");
        let limit = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let name = "process::a_server_in_a_process_of_its_own";
        let mut child = Command::new("sh")
            .args(["-c", &limit])
            .arg(exe)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let stdout = child.stdout.take().expect("piped");
        let port = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("port ")?.parse::<u16>().ok())
            .expect("a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Self { child, address }
    }

    async fn client(&self) -> TransportClient {
        let url = format!("tcp://{}", self.address);
        let client = TransportClient::builder()
            .auto_reconnect(false)
            .with_protocol(url.as_str());
        let client = client.build().await.expect("valid");
        client.connect().await.expect("connected");
        client
    }

    /// Processor time so far, in ticks of 10 ms.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("alive");
        let behind = stat.rsplit(')').next().expect("a line");
        let ticks = behind.split_whitespace().skip(11).take(2);
        ticks
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Whether the system has stopped it.
    fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.expect("alive");
        stat.rsplit(')')
            .next()
            .is_some_and(|behind| behind.trim_start().starts_with('T'))
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("a shell").success());
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets so much time pass; the one thing here that has no event.
async fn pass(time: Duration) {
    let mut ticks = interval(time);
    ticks.tick().await;
    ticks.tick().await;
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_without_descriptors_serves_whom_it_has_and_accepts_again() {
    row(&[], async |_| {
        let server = Apart::start(64);
        let early = server.client().await;
        early.request("here").await.expect("answered");
        let mut crowd = Vec::new();
        for _ in 0..200 {
            crowd.push(
                Wire::tcp(server.address)
                    .await
                    .expect("the kernel's backlog"),
            );
        }
        let before = server.ticks();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            early.request("still here").await.expect("answered");
            pass(Duration::from_millis(20)).await;
        }
        // A loop that did not pause would take all of two seconds.
        let spent = server.ticks() - before;
        assert!(spent < 40, "{} ms of processor time in 2 s", spent * 10);
        drop(crowd);
        let late = timeout(Duration::from_secs(5), server.client()).await;
        let late = late.expect("accepts again");
        late.request("me too").await.expect("answered");
        late.disconnect().await.expect("disconnected");
        early.disconnect().await.expect("disconnected");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_that_was_stopped_for_a_while_goes_on_and_repeats_nothing() {
    row(&[], async |_| {
        let server = Apart::start(256);
        let client = server.client().await;
        client.request("before").await.expect("answered");
        server.signal("-STOP");
        while !server.is_stopped() {
            pass(Duration::from_millis(5)).await;
        }
        let asking = {
            let session = client.session().expect("connected");
            tokio::spawn(async move { session.request("meanwhile").await })
        };
        pass(Duration::from_secs(2)).await;
        assert!(!asking.is_finished(), "answered by a stopped process");
        server.signal("-CONT");
        let answer = asking.await.expect("ran").expect("answered");
        assert_eq!(answer.payload, "meanwhile");
        client.request("after").await.expect("answered");
        assert_eq!(client.stats().responses_unmatched, 0);
        client.disconnect().await.expect("disconnected");
    });
}

#[test]
fn everybody_is_served_while_others_burn_the_processor() {
    row(&[], async |_| {
        let until = std::time::Instant::now() + Duration::from_secs(2);
        let hogs: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut number = 0_u64;
                    while std::time::Instant::now() < until {
                        number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(7));
                    }
                })
            })
            .collect();
        pass(Duration::from_millis(2_100)).await;
        for hog in hogs {
            hog.join().expect("ran");
        }
    });
}

#[test]
fn no_deadline_is_of_the_wall_clock() {
    // Where the wall clock is read: when a session began, for display, and the dates of certificates.
    const ALLOWED: [&str; 2] = ["connection_info.rs", "development.rs"];
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut folders = vec![std::path::PathBuf::from(crates)];
    let mut sources = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir()
                && !matches!(
                    name.as_str(),
                    "tests" | "examples" | "msgtrans-cli" | "target"
                )
            {
                folders.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                sources += 1;
                let text = std::fs::read_to_string(&path).expect("a source");
                let reads = text.contains("SystemTime::now") || text.contains("UNIX_EPOCH");
                assert!(
                    !reads || ALLOWED.contains(&name.as_str()),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(sources > 100, "{sources} sources");
}
