// Answers of the API server, or of a proxy before it: a refusal has words; a list is read to its end, and holds objects that say what
// they are, or says why it is none.

#include "controller/kube/answer.h"
#include "controller/kube/listing.h"
#include "tests/fuzz/target.h"

using namespace trainyard::kube;
using trainyard::fuzz::expect;

std::vector<std::string> trainyard::fuzz::seeds() {
  return {R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"a"}}]})",
          R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"7","continue":"next"},"items":null})",
          R"({"kind":"Status","status":"Failure","message":"pods \"a\" not found","reason":"NotFound","code":404})",
          "<html><body>502 Bad Gateway</body></html>"};
}

namespace {

/// Gives that answer first, and to whoever asks for more the end of a list.
class OneAnswer : public KubeApi {
 public:
  OneAnswer(int status, std::string_view body) : status_(status), body_(body) {}
  Response perform(const Request&) override {
    ++asked;
    if (asked == 1) return decode_answer(status_, body_);
    return decode_answer(200, R"({"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"8"},"items":[]})");
  }
  int asked = 0;

 private:
  const int status_;
  const std::string_view body_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = trainyard::fuzz::text_of(bytes, size);
  for (const int status : {200, 403, 410, 500}) {
    const Response answer = decode_answer(status, text);
    expect(answer.ok() == (status == 200), "a status was lost");
    expect(answer.ok() || !answer.message.empty(), "a refusal has no words");
    OneAnswer api(status, text);
    const ListResult list = list_all(api, {.path = "/api/v1/pods", .label_selector = {}, .shrink = {}}, 7);
    expect(api.asked <= 2, "a list was asked for without end");
    expect(list.ok() || !list.failure.message.empty(), "a list failed without a word");
    for (const auto& item : list.listing.items) {
      expect(item.is_object() && item.contains("kind") && item.contains("apiVersion"), "an object does not say what it is");
    }
  }
  return 0;
}
