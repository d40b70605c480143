#include "crds/contract/signature.h"

#include <set>

#include <gtest/gtest.h>

namespace trainyard::contract {
namespace {

const std::string kKey(64, 'a');
const SignedMessage kMessage{.method = "PUT",
                             .target = "/v1/assignment",
                             .pod_uid = "8c1b",
                             .nonce = "00112233445566778899aabbccddeeff",
                             .status = 200,
                             .body = R"({"generation":3})"};

TEST(JobKey, IsTheHmacOfRfc4231) {
  // RFC 4231, test cases 1 and 2.
  EXPECT_EQ(job_key(std::string(20, '\x0b'), "Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(job_key("Jefe", "what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  // Test case 6: a key longer than a block.
  EXPECT_EQ(job_key(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(KeyId, TellsControllerKeysApart) {
  EXPECT_EQ(key_id(kKey), key_id(kKey));
  EXPECT_NE(key_id(kKey), key_id(std::string(64, 'b')));
  EXPECT_EQ(key_id(kKey).size(), 8u);
}

TEST(Digest, IsTheSha256OfFips180) {
  // FIPS 180-2, appendix B.1, and NIST's value of the empty message.
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Signature, IsAcceptedForTheMessageThatWasSigned) { EXPECT_TRUE(verify(kKey, kMessage, sign(kKey, kMessage))); }

TEST(Signature, IsRefusedWhenAnyPartOfTheMessageWasChanged) {
  const std::string signature = sign(kKey, kMessage);
  const auto refused = [&](auto change) {
    SignedMessage tampered = kMessage;
    change(tampered);
    return !verify(kKey, tampered, signature);
  };
  EXPECT_TRUE(refused([](SignedMessage& message) { message.method = "GET"; }));
  EXPECT_TRUE(refused([](SignedMessage& message) { message.target = "/v1/state"; }));
  EXPECT_TRUE(refused([](SignedMessage& message) { message.pod_uid = "8c1c"; }));
  EXPECT_TRUE(refused([](SignedMessage& message) { message.nonce = "00112233445566778899aabbccddeefe"; }));
  EXPECT_TRUE(refused([](SignedMessage& message) { message.status = 409; }));
  EXPECT_TRUE(refused([](SignedMessage& message) { message.body = R"({"generation":4})"; }));
}

TEST(Signature, IsRefusedUnderAnotherKeyOrWhenItWasChanged) {
  const std::string signature = sign(kKey, kMessage);
  EXPECT_FALSE(verify(std::string(64, 'b'), kMessage, signature));
  EXPECT_FALSE(verify(kKey, kMessage, ""));
  EXPECT_FALSE(verify(kKey, kMessage, signature.substr(0, 63)));
  EXPECT_FALSE(verify(kKey, kMessage, signature + "0"));
  for (std::size_t i = 0; i < signature.size(); ++i) {
    std::string tampered = signature;
    tampered[i] = tampered[i] == '0' ? '1' : '0';
    EXPECT_FALSE(verify(kKey, kMessage, tampered)) << i;
  }
}

TEST(Signature, DoesNotMoveTextFromOnePartToTheNext) {
  // Each part is signed with its length: the same text cut at another place is another message.
  const SignedMessage one{.method = "GET", .target = "/v1/state\n3:abc"},
      other{.method = "GET", .target = "/v1/state", .pod_uid = "abc"};
  EXPECT_NE(sign(kKey, one), sign(kKey, other));
  std::set<std::string> signatures;
  const std::string text = "abcdef";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    signatures.insert(sign(kKey, {.nonce = std::string_view(text).substr(0, cut), .body = std::string_view(text).substr(cut)}));
  }
  EXPECT_EQ(signatures.size(), text.size() + 1);
}

TEST(Nonce, IsFreshEveryTime) {
  std::set<std::string> nonces;
  for (int i = 0; i < 1000; ++i) nonces.insert(fresh_nonce());
  EXPECT_EQ(nonces.size(), 1000u);
  EXPECT_EQ(nonces.begin()->size(), 32u);
  EXPECT_EQ(nonces.begin()->find_first_not_of("0123456789abcdef"), std::string::npos);
}

}  // namespace
}  // namespace trainyard::contract
