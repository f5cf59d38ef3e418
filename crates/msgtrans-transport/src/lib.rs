//! The seam that every protocol implements: endpoints, listeners, connectors, connections.
