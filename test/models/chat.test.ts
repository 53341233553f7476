import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { fromTokenizer } from "../../src/models/chat.ts"
import { fromFiles } from "../../src/models/tokenizer.ts"
import { wordLevelFiles } from "../../src/models/wordLevel.ts"
import { worldSpec } from "./world.ts"

const files = wordLevelFiles(worldSpec)
const read = (extra: Readonly<Record<string, string>> = {}) =>
  Result.getOrThrow(fromFiles("world", { ...files, ...extra }))

describe("chat", () => {
  it("without a template is [bos] prompt [sep], and an answer ends with the end token", () => {
    const chat = Result.getOrThrow(fromTokenizer("world", read()))
    assert.isFalse(chat.templated)
    assert.deepStrictEqual([...chat.encodePrompt("The farmer")], [1, 19, 15, 2])
    assert.deepStrictEqual([...chat.encodeCompletion("sells well")], [16, 17, 3])
    assert.deepStrictEqual(chat.stopIds, [3])
  })

  it("ends a prompt with a newline where there is no separator", () => {
    const { sep_token: _, ...roles } = worldSpec.roles
    const plain = Result.getOrThrow(fromFiles("world", wordLevelFiles({ ...worldSpec, roles })))
    const chat = Result.getOrThrow(fromTokenizer("world", plain, [7]))
    assert.deepStrictEqual([...chat.encodePrompt([{ role: "user", content: "The" }])], [1, 19, 11])
    assert.deepStrictEqual(chat.stopIds, [3, 7])
  })

  it("renders a template, from its own file or from tokenizer_config.json, and reads its special tokens", () => {
    const template =
      "{{ bos_token }}{% for m in messages %}{{ m['role'] }} {{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<sep>{% endif %}"
    const config = JSON.stringify({ ...JSON.parse(files["tokenizer_config.json"]!), chat_template: template })
    for (const extra of [{ "chat_template.jinja": template }, { "tokenizer_config.json": config }]) {
      const chat = Result.getOrThrow(fromTokenizer("world", read(extra)))
      assert.strictEqual(chat.render("The farmer"), "<bos>user The farmer<sep>")
      assert.deepStrictEqual([...chat.encodePrompt("The farmer")], [1, 4, 19, 15, 2])
    }
  })

  it("names the folder of a template that does not parse", () => {
    const error = Result.getOrThrow(Result.flip(fromTokenizer("folder", read({ "chat_template.jinja": "{% if %}" }))))
    assert.match(error.message, /folder: the chat template does not parse/)
  })
})
