//! SaslHandshake and SaslAuthenticate (KIP-43, KIP-152, KIP-368), and DescribeUserScramCredentials
//! (KIP-554).

use super::schema::messages;

messages! {
    SaslHandshake: SaslHandshakeRequest -> SaslHandshakeResponse, versions 0-1, flexible none;

    struct SaslHandshakeRequest {
        /// The mechanism the client wants, such as `SCRAM-SHA-256`.
        mechanism: String [0+],
    }

    struct SaslHandshakeResponse {
        error_code: i16 [0+],
        /// The mechanisms the broker has.
        mechanisms: Vec<String> [0+],
    }
}

messages! {
    SaslAuthenticate: SaslAuthenticateRequest -> SaslAuthenticateResponse,
    versions 0-2, flexible 2+;

    struct SaslAuthenticateRequest {
        auth_bytes: Vec<u8> [0+],
    }

    struct SaslAuthenticateResponse {
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        auth_bytes: Vec<u8> [0+],
        /// After how many milliseconds the client has to authenticate again; 0 for never.
        session_lifetime_ms: i64 [1+],
    }
}

messages! {
    DescribeUserScramCredentials: DescribeUserScramCredentialsRequest ->
        DescribeUserScramCredentialsResponse,
    versions 0-0, flexible 0+;

    struct DescribeUserScramCredentialsRequest {
        /// Null and none ask for all users.
        users: Option<Vec<ScramUserName>> [0+ null 0+],
    }

    struct ScramUserName {
        name: String [0+],
    }

    struct DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32 [0+],
        /// Of the whole request.
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        results: Vec<ScramUserCredentials> [0+],
    }

    struct ScramUserCredentials {
        user: String [0+],
        error_code: i16 [0+],
        error_message: Option<String> [0+ null 0+],
        credential_infos: Vec<ScramCredentialInfo> [0+],
    }

    struct ScramCredentialInfo {
        /// 1 SCRAM-SHA-256, 2 SCRAM-SHA-512.
        mechanism: i8 [0+],
        iterations: i32 [0+],
    }
}
