//! Trialog's own Kafka client over the seam.
