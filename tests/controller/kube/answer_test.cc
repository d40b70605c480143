#include "controller/kube/answer.h"

#include <gtest/gtest.h>

namespace trainyard::kube {
namespace {

TEST(DecodeAnswer, GivesTheObject) {
  const Response response = decode_answer(200, R"({"kind":"Pod"})");
  EXPECT_TRUE(response.ok());
  EXPECT_EQ(response.body.at("kind"), "Pod");
}

TEST(DecodeAnswer, TakesReasonAndMessageFromTheStatus) {
  const Response response =
      decode_answer(409, R"({"kind":"Status","reason":"AlreadyExists","message":"pods \"a\" already exists"})");
  EXPECT_TRUE(response.is_already_exists());
  EXPECT_FALSE(response.is_conflict());
  EXPECT_EQ(response.message, "pods \"a\" already exists");
}

TEST(DecodeAnswer, KeepsTheTextOfAnAnswerThatIsNoJson) {
  EXPECT_EQ(decode_answer(200, "ok").body, "ok");
  const Response bad_gateway = decode_answer(502, "<html>" + std::string(1000, 'x'), std::chrono::seconds(3));
  EXPECT_TRUE(bad_gateway.is_temporary());
  EXPECT_EQ(bad_gateway.message.size(), 400u);
  EXPECT_EQ(bad_gateway.retry_after, std::chrono::seconds(3));
}

TEST(DecodeAnswer, AnErrorAlwaysHasAMessage) {
  EXPECT_EQ(decode_answer(503, "").message, "HTTP status 503 without a message");
  EXPECT_EQ(decode_answer(500, R"({"kind":"Status"})").message, "HTTP status 500 without a message");
  EXPECT_EQ(decode_answer(500, R"({"kind":"Status","message":7})").message, "HTTP status 500 without a message");
}

TEST(TargetOf, EncodesTheQuery) {
  const Request request{.path = "/api/v1/pods", .query = {{"labelSelector", "a=b,c in (d)"}, {"limit", "5"}}};
  EXPECT_EQ(target_of(request), "/api/v1/pods?labelSelector=a%3Db%2Cc%20in%20%28d%29&limit=5");
}

}  // namespace
}  // namespace trainyard::kube
