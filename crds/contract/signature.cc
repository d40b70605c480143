#include "crds/contract/signature.h"

#include <array>
#include <stdexcept>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace trainyard::contract {
namespace {

std::string hex(const unsigned char* bytes, std::size_t size) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < size; ++i) {
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
  return out;
}

std::string hmac(std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(text.data()),
           text.size(), digest.data(), &size) == nullptr) {
    throw std::runtime_error("HMAC-SHA256 failed");
  }
  return hex(digest.data(), size);
}

/// Each part with its length before it, so that no two messages have the same text.
std::string canonical(const SignedMessage& message) {
  std::string out = "trainyard/1";
  for (const std::string_view part : {message.method, message.target, message.pod_uid, message.nonce, message.body}) {
    out += '\n' + std::to_string(part.size()) + ':';
    out += part;
  }
  return out + '\n' + std::to_string(message.status);
}

}  // namespace

std::string job_key(std::string_view controller_key, std::string_view job_uid) { return hmac(controller_key, job_uid); }

std::string key_id(std::string_view controller_key) { return hmac(controller_key, "the id of this key").substr(0, 8); }

std::string digest(std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned int size = 0;
  if (EVP_Digest(text.data(), text.size(), out.data(), &size, EVP_sha256(), nullptr) != 1)
    throw std::runtime_error("SHA-256 failed");
  return hex(out.data(), size);
}

std::string sign(std::string_view key, const SignedMessage& message) { return hmac(key, canonical(message)); }

bool verify(std::string_view key, const SignedMessage& message, std::string_view signature) {
  const std::string expected = sign(key, message);
  return expected.size() == signature.size() && CRYPTO_memcmp(expected.data(), signature.data(), expected.size()) == 0;
}

std::string fresh_nonce() {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) throw std::runtime_error("the system's random source failed");
  return hex(bytes.data(), bytes.size());
}

}  // namespace trainyard::contract
