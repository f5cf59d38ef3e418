//! Requests through the public client, and through the client that one writes by hand: the same tasks ask both.

use crate::hand_client::HandClient;
use crate::{Time, Trouble, Who};
use bench_kit::process::Usage;
use bytes::Bytes;
use hdrhistogram::Histogram;
use msgtrans::TransportClient;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;
use tokio::task::LocalSet;

const PAYLOAD: usize = 64;
/// One request in so many is timed: reading the clock twice costs as much as a tenth of a request.
const TIMED: u64 = 16;

/// Asks and waits for the answer.
trait Ask: Clone + 'static {
    fn ask(&self, payload: Bytes) -> impl Future<Output = Result<Bytes, Trouble>>;
}

impl Ask for TransportClient {
    async fn ask(&self, payload: Bytes) -> Result<Bytes, Trouble> {
        Ok(self.request(payload).await?.payload)
    }
}

impl Ask for HandClient {
    async fn ask(&self, payload: Bytes) -> Result<Bytes, Trouble> {
        self.request(payload).await
    }
}

/// What the tasks have done.
struct Done {
    requests: Cell<u64>,
    measuring: Cell<bool>,
    stopping: Cell<bool>,
    latency: RefCell<Histogram<u64>>,
}

pub(crate) async fn run(
    who: Who,
    target: &str,
    concurrent: usize,
    time: &Time,
) -> Result<(), Trouble> {
    match who {
        Who::Ours => {
            let client = TransportClient::builder()
                .with_protocol(target)
                .build()
                .await?;
            client.connect().await?;
            measure(client.clone(), concurrent, time).await?;
            Ok(client.disconnect().await?)
        }
        Who::Hand => {
            let address = target
                .strip_prefix("tcp://")
                .ok_or("the client by hand speaks TCP alone")?;
            let client = HandClient::connect(address).await?;
            measure(client, concurrent, time).await
        }
    }
}

async fn measure(client: impl Ask, concurrent: usize, time: &Time) -> Result<(), Trouble> {
    let (warm_up, duration) = time.durations()?;
    let done = Rc::new(Done {
        requests: Cell::new(0),
        measuring: Cell::new(false),
        stopping: Cell::new(false),
        latency: RefCell::new(Histogram::new_with_max(60_000_000_000, 3)?),
    });
    let reading = || -> Result<_, Trouble> {
        Ok((
            Instant::now(),
            Usage::of(std::process::id())?,
            done.requests.get(),
        ))
    };
    let tasks = LocalSet::new();
    let asking: Vec<_> = (0..concurrent)
        .map(|task| tasks.spawn_local(ask_on(client.clone(), task, done.clone())))
        .collect();
    let (before, after) = tasks
        .run_until(async {
            tokio::time::sleep(warm_up).await;
            done.measuring.set(true);
            let before = reading()?;
            tokio::time::sleep(duration).await;
            let after = reading()?;
            done.stopping.set(true);
            for task in asking {
                task.await??;
            }
            Ok::<_, Trouble>((before, after))
        })
        .await?;
    let requests = after.2 - before.2;
    if requests == 0 {
        return Err("not one request was answered in the measured time".into());
    }
    let seconds = (after.0 - before.0).as_secs_f64();
    let latency = done.latency.borrow();
    let micros = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e3;
    let switches = |usage: &Usage| usage.voluntary_switches + usage.involuntary_switches;
    println!(
        "{}",
        json!({
            "messages": requests,
            "messages_per_s": requests as f64 / seconds,
            "cpu_ns_per_message": (after.1.cpu_ns - before.1.cpu_ns) as f64 / requests as f64,
            "switches_per_1000":
                switches(&after.1).saturating_sub(switches(&before.1)) as f64 * 1e3 / requests as f64,
            "latency_us": { "p50": micros(0.5), "p99": micros(0.99), "p999": micros(0.999) },
        })
    );
    Ok(())
}

/// One request after the other; each answer must be what was asked, and no other task's.
async fn ask_on(client: impl Ask, task: usize, done: Rc<Done>) -> Result<(), Trouble> {
    let mut payload = vec![0xa5; PAYLOAD];
    payload[..8].copy_from_slice(&(task as u64).to_be_bytes());
    let payload = Bytes::from(payload);
    let mut count = 0u64;
    while !done.stopping.get() {
        count += 1;
        let begin = count.is_multiple_of(TIMED).then(Instant::now);
        let answer = client.ask(payload.clone()).await?;
        if answer != payload {
            return Err(format!("task {task} got another answer than its own").into());
        }
        done.requests.set(done.requests.get() + 1);
        if let Some(begin) = begin
            && done.measuring.get()
        {
            let mut latency = done.latency.borrow_mut();
            let taken = (begin.elapsed().as_nanos() as u64).clamp(1, latency.high());
            latency.record(taken)?;
        }
    }
    Ok(())
}
