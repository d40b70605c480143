#pragma once
// Authenticated messages between controller and agents. The job key is HMAC-SHA256(controller key, job UID); it lies in a Secret
// that only the job's pods mount, and never travels. A request carries a fresh nonce and a signature over method, target, pod UID,
// nonce and body; the reply carries a signature over the same nonce, so that neither can be forged, moved to another pod or replayed
// as the answer to another request. A replayed PUT is harmless: assignments are level-based and fenced by their generation.
// A library of its own (trainyard::signature, OpenSSL): ranks do not need it.

#include <cstdint>
#include <string>
#include <string_view>

namespace trainyard::contract {

inline constexpr const char* kNonceHeader = "Trainyard-Nonce";
inline constexpr const char* kSignatureHeader = "Trainyard-Signature";

struct SignedMessage {
  std::string_view method;  // GET, PUT
  std::string_view target;  // /v1/state?after=3&waitSeconds=30
  std::string_view pod_uid;
  std::string_view nonce;   // 32 hexadecimal digits
  std::int32_t status = 0;  // of a reply, as 200; 0 in a request
  std::string_view body;
};

/// 64 hexadecimal digits. Throws std::runtime_error when OpenSSL fails.
std::string job_key(std::string_view controller_key, std::string_view job_uid);
/// Names the controller key without telling it: 8 hexadecimal digits, part of the names of the Secrets that hold keys derived from it.
std::string key_id(std::string_view controller_key);
/// Stands for the text where that is too long to keep, and nobody finds another that it stands for: its SHA-256, 64 hexadecimal digits. Throws
/// std::runtime_error when OpenSSL fails.
std::string digest(std::string_view text);
std::string sign(std::string_view key, const SignedMessage& message);
/// Compares in constant time.
bool verify(std::string_view key, const SignedMessage& message, std::string_view signature);
/// 32 hexadecimal digits from the system's random source.
std::string fresh_nonce();

}  // namespace trainyard::contract
