//! What this process holds, from `/proc/self`, and what becomes of that over time.

use std::fs;

use msgtrans_mempool::CountingAllocator;

/// What is held of it is exact, which resident memory is not: that also holds what the system's allocator keeps.
#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator::new();

/// Bytes of the heap that this process holds.
pub(crate) fn heap_bytes() -> usize {
    HEAP.held_bytes()
}

/// Resident memory in KiB; 0 where the system does not say.
pub(crate) fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().strip_suffix("kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .unwrap_or(0)
}

/// Open descriptors; 0 where the system does not say.
pub(crate) fn open_descriptors() -> u64 {
    // The directory itself is open while it is read.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

/// How fast `y` grows with `x`: the slope of the least squares line, 0 for fewer than two points.
pub(crate) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (x, y) in points {
        covariance += (x - mean_x) * (y - mean_y);
        variance += (x - mean_x) * (x - mean_x);
    }
    if variance > 0.0 {
        covariance / variance
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_a_point_has_none() {
        let line: Vec<(f64, f64)> = (0..10)
            .map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0))
            .collect();
        assert!((slope(&line) - 3.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_holds_something() {
        assert!(resident_kib() > 0);
        let before = open_descriptors();
        let file = fs::File::open("/proc/self/status").expect("it is there");
        assert!(open_descriptors() > before || before > 0);
        drop(file);
    }
}
