//! The size and the header of requests and answers.

use trialog_engine::id::CorrelationId;
use trialog_engine::limit::FRAME_BYTES_MAX;
use trialog_engine::wire::api::ApiKey;
use trialog_engine::wire::frame::{self, RequestHeader};

pub fn run(data: &[u8]) {
    if let Ok(Some(size)) = frame::frame_size(data) {
        assert!(size <= FRAME_BYTES_MAX);
    }
    let _ = frame::response_correlation_id(data);
    if let Ok((header, body)) = RequestHeader::decode(data) {
        assert!(body <= data.len());
        let mut again = Vec::new();
        header.encode(&mut again);
        let (same, end) = RequestHeader::decode(&again).expect("what we wrote");
        assert_eq!(same, header);
        assert_eq!(end, again.len());
        if let Ok(body) = frame::response_body(data, header.api_key, header.api_version) {
            assert!(body <= data.len());
        }
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for key in ApiKey::ALL {
        for (api_version, client_id) in [(0, None), (1, Some("")), (5, Some("a client"))] {
            let correlation_id = CorrelationId(7);
            let header =
                RequestHeader { api_key: key.code(), api_version, correlation_id, client_id };
            let mut out = Vec::new();
            header.encode(&mut out);
            seeds.push(out);
        }
    }
    seeds
}
