//! Lock-free map, queue, cells, counters and histogram.
