//! Which free list is near: shards by processor, neighbours on the same memory node first.

use std::cell::Cell;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory node of each processor, by processor number; one node where nothing is known.
pub(crate) struct Topology {
    node_of: Vec<usize>,
}

impl Topology {
    pub(crate) fn machine() -> &'static Self {
        static MACHINE: OnceLock<Topology> = OnceLock::new();
        MACHINE.get_or_init(Self::read)
    }

    fn read() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let mut node_of = vec![0; cores];
        let nodes = fs::read_dir("/sys/devices/system/node")
            .into_iter()
            .flatten()
            .flatten();
        for entry in nodes {
            let name = entry.file_name();
            let node = name.to_str().and_then(|name| name.strip_prefix("node"));
            let Some(node) = node.and_then(|node| node.parse::<usize>().ok()) else {
                continue;
            };
            let list = fs::read_to_string(entry.path().join("cpulist")).unwrap_or_default();
            for cpu in parse_cpu_list(&list) {
                if cpu >= node_of.len() {
                    node_of.resize(cpu + 1, 0);
                }
                node_of[cpu] = node;
            }
        }
        Self { node_of }
    }

    pub(crate) fn processors(&self) -> usize {
        self.node_of.len()
    }

    fn node(&self, processor: usize) -> usize {
        self.node_of.get(processor).copied().unwrap_or(0)
    }

    /// For each of `shards` free lists, all of them in the order in which a thread at home there
    /// looks: its own, those of its memory node, the others.
    pub(crate) fn search_orders(&self, shards: usize) -> Box<[Box<[usize]>]> {
        (0..shards)
            .map(|home| {
                let mut order: Vec<usize> = (0..shards).map(|n| (home + n) % shards).collect();
                // Stable: within a node the next ones come first, so that thieves spread.
                order.sort_by_key(|other| (*other != home, self.node(*other) != self.node(home)));
                order.into_boxed_slice()
            })
            .collect()
    }
}

/// The processor on which this thread was when it first asked, or a number of its own.
///
/// Read once: a thread seldom leaves its memory node, and asking each time costs a system call.
pub(crate) fn home_processor() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: Cell<Option<usize>> = const { Cell::new(None) };
    }
    if cfg!(msgtrans_loom) {
        return 0;
    }
    HOME.try_with(|home| {
        home.get().unwrap_or_else(|| {
            let processor = fs::read_to_string("/proc/thread-self/stat")
                .ok()
                .and_then(|stat| parse_processor(&stat))
                // Relaxed: only spreads threads.
                .unwrap_or_else(|| NEXT.fetch_add(1, Ordering::Relaxed));
            home.set(Some(processor));
            processor
        })
    })
    .unwrap_or(0)
}

/// The processor is the 39th field; the second, the name, is in brackets and may hold anything.
fn parse_processor(stat: &str) -> Option<usize> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(36)?.parse().ok()
}

/// `0-3,8,10-11` as the kernel writes it.
fn parse_cpu_list(list: &str) -> Vec<usize> {
    // No machine has more; a garbled file must not make us allocate.
    const CPUS_MAX: usize = 8192;
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>())
            && last < CPUS_MAX
        {
            cpus.extend(first..=last);
        }
    }
    cpus
}

#[cfg(all(test, not(msgtrans_loom)))]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_of_the_kernel_are_read() {
        assert_eq!(parse_cpu_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_cpu_list("\n"), [0usize; 0]);
        assert_eq!(parse_cpu_list("0-99999999,x,2"), [2]);
    }

    #[test]
    fn processor_is_found_behind_any_thread_name() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        let stat = format!("17 (a) b (c) {}", fields.join(" "));
        assert_eq!(parse_processor(&stat), Some(39));
        assert_eq!(parse_processor("17 (cut"), None);
    }

    #[test]
    fn search_goes_home_then_to_the_node_then_elsewhere() {
        let topology = Topology {
            node_of: vec![0, 1, 0, 1],
        };
        let orders = topology.search_orders(4);
        assert_eq!(*orders[0], [0, 2, 1, 3]);
        assert_eq!(*orders[3], [3, 1, 0, 2]);
    }
}
