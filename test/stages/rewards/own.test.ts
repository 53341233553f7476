/**
 * Rewards of a user's own: what a module, a command and a service say, and what is done where they throw, hang, say too
 * little, NaN or rubbish, or die. Never a hang: every wait has a time-out.
 */
import { writeFileSync } from "node:fs"
import { createServer, type RequestListener } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { coverage } from "../../../src/rewards/coverage.ts"
import { tag } from "../../../src/rewards/tag.ts"
import { RewardFailed } from "../../../src/stages/rewards/RewardFailed.ts"
import { openReward, rewardSchema, type Score } from "../../../src/stages/scoring.ts"
import { freshFolder } from "../../support/folders.ts"

const fresh = freshFolder("rewards")
const src = (path: string) => fileURLToPath(new URL(`../../../src/${path}`, import.meta.url))

/** Every text has the same embedding. */
const estimator = {
  embed: (texts: ReadonlyArray<string>) =>
    Effect.succeed({ rows: texts.length, width: 1, data: new Float32Array(texts.length).fill(1) }),
  calibrated: { coverage: 0.5, uniqueness: 0.5 },
  prefix: "keep"
} as const

const situation = (id: string) => ({
  id,
  prompt: `Situation: ${id}`,
  situation: id,
  perspectives: [{ text: "In the perspective of Duty, one must." }]
})
const answers = ["short", "a somewhat longer one", "the longest of the three by far"]
const batch = answers.map((completion, k) => ({ situation: situation(`s${k}`) as never, chat: "chat", completion }))

const parts = [coverage, tag]
const open = (sections: object) =>
  openReward(
    parts,
    Schema.decodeSync(rewardSchema(parts))({ coverage: { weight: 0 }, tag: { weight: 0 }, ...sections })
  )
const scores = (sections: object, step = 0) =>
  Effect.scoped(Effect.flatMap(open(sections), (reward) => reward.score(estimator, batch, step)))
const failure = (sections: object) =>
  Effect.map(Effect.flip(scores(sections)), (error) => {
    assert.instanceOf(error, RewardFailed)
    return error
  })
const own = (all: ReadonlyArray<Score>, name = "mine") =>
  all.map(({ rows }) => rows.find((row) => row.name === name)!.value)

const module = (score: string, extra = "") => {
  const file = join(fresh(), "mine.ts")
  writeFileSync(
    file,
    `import { reward } from "${src("rewards/custom.ts")}"
import * as Param from "${src("dsl/param.ts")}"
${extra}
export const mine = reward({ params: { by: Param.number(1, "factor") }, score: ${score} })
`
  )
  return { from: { _tag: "Code", module: file, export: "mine", name: "lab/mine.ts" } }
}

describe("a reward from a module", () => {
  it.live("scores beside Overtone's parts, with its parameters; a promise is as good as a value", () =>
    Effect.gen(function* () {
      const first = yield* scores({
        mine: { ...module("({ answer }, { by }) => by * answer.text.length"), by: 2, weight: 0.5 }
      })
      assert.deepStrictEqual(own(first), [10, 42, 62])
      assert.deepStrictEqual(
        first.map(({ reward }) => reward),
        [5, 21, 31]
      )
      assert.deepStrictEqual(
        first[0]!.rows.map(({ name }) => name),
        ["coverage", "tag", "mine", "coverage_rate"]
      )
      const late = yield* scores({ mine: module("async ({ references }) => references.length") })
      assert.deepStrictEqual(own(late), [1, 1, 1])
    })
  )

  it.live("null is a completion that it cannot score: without another reward the row has none", () =>
    Effect.gen(function* () {
      const all = yield* scores({ mine: module("({ answer }) => (answer.text === 'short' ? null : 1)") })
      assert.deepStrictEqual(own(all), [Number.NaN, 1, 1])
      assert.deepStrictEqual(
        all.map(({ reward }) => reward),
        [Number.NaN, 1, 1]
      )
    })
  )

  it.live("journals its rates beside it, with weight 0", () =>
    Effect.gen(function* () {
      const all = yield* scores({ mine: module("() => ({ value: 1, rates: { share: 0.25 } })") })
      assert.deepInclude(all[0]!.rows.at(-1), { name: "mine/share", value: 0.25, weight: 0 })
    })
  )

  it.live("may read embeddings, and may be written as Overtone's own parts are", () =>
    Effect.gen(function* () {
      const from = { _tag: "Code", module: src("rewards/coverage.ts"), export: "coverage", name: "overtone/coverage" }
      const all = yield* scores({ again: { from, shape: "linear" } })
      assert.deepStrictEqual(own(all, "again"), [5, 5, 5])
    })
  )

  const wrong: ReadonlyArray<readonly [what: string, score: string, message: RegExp]> = [
    [
      "throws",
      "({ answer }) => { if (answer.text.length > 9) throw new Error('too long'); return 0 }",
      /the reward mine \(mine\.ts#mine\) threw for completion 1 of the batch \(prompt s1\): "a somewhat longer one": Error: too long .*return null/
    ],
    [
      "says NaN",
      "() => 0 / 0",
      /said NaN for completion 0 .*prompt s0.*"short"\. It has to say a finite number, or null/
    ],
    ["says infinity", "() => 1 / 0", /said Infinity/],
    ["says a text", "() => '1'", /said "1"/],
    ["says nothing", "() => {}", /said undefined/],
    ["says a rate of NaN", "() => ({ value: 1, rates: { share: NaN } })", /said "NaN" as its rate share/]
  ]
  it.live.each(wrong)("that %s fails the task", ([, score, message]) =>
    Effect.gen(function* () {
      assert.match((yield* failure({ mine: module(score) })).message, message)
    })
  )

  it.live("that loops without end is ended at its time-out", () =>
    Effect.gen(function* () {
      const loops = { ...module("() => { for (;;) {} }"), timeout: 0.3 }
      assert.match(
        (yield* failure({ mine: loops })).message,
        /not answered after 0\.3 s \(a batch of 3 .*Raise its `timeout`/
      )
      const waits = { ...module("() => new Promise(() => {})"), timeout: 0.3 }
      assert.match((yield* failure({ mine: waits })).message, /not answered after 0\.3 s/)
    })
  )

  it.live("that ends its thread, or cannot be loaded, is told", () =>
    Effect.gen(function* () {
      assert.match(
        (yield* failure({ mine: module("() => process.exit(3)") })).message,
        /ended: its thread ended with exit code 3/
      )
      assert.match(
        (yield* failure({ mine: module("() => 1", "throw new Error('no')") })).message,
        /cannot be reached: Error: no/
      )
    })
  )
})

const python = (body: string, start = "") => {
  const file = join(fresh(), "reward.py")
  writeFileSync(
    file,
    `import json, os, sys, time
${start}
def answer(batch, rows):
${body.replaceAll(/^/gm, "    ")}
for line in sys.stdin:
    batch = json.loads(line)
    answer(batch, batch["rows"])
`
  )
  return { exec: ["python3", { _tag: "File", path: file, sha256: "00" }], version: "1" }
}
const say = 'print(json.dumps({"id": batch["id"], "scores": scores}), flush=True)'

describe("a reward from a command", () => {
  it.live("gets batches and says scores, in one process that is kept alive; null is unscorable", () =>
    Effect.gen(function* () {
      const mine = {
        ...python(
          `global n
n += 1
scores = [None if r["completion"] == "short" else n * batch["params"]["by"] + len(r["references"]) for r in rows]
print("to the log", file=sys.stderr)
${say}`,
          "n = 0"
        ),
        params: { by: 10 }
      }
      const [first, second] = yield* Effect.scoped(
        Effect.flatMap(open({ mine }), (reward) =>
          Effect.all([reward.score(estimator, batch, 0), reward.score(estimator, batch, 1)])
        )
      )
      assert.deepStrictEqual(own(first), [Number.NaN, 11, 11])
      assert.deepStrictEqual(own(second), [Number.NaN, 21, 21])
    })
  )

  it.live("gets the step, ids, both prompts and the perspectives, and runs beside its file", () =>
    Effect.gen(function* () {
      const mine = python(`r = rows[1]
assert batch["step"] == 7 and batch["reward"] == "mine" and r["prompt_id"] == "s1" and r["situation"] == "s1"
assert r["prompt"] == "chat" and r["perspectives"] == ["a somewhat longer one"] and r["strict"] is False
scores = [float(os.path.exists("reward.py"))] * 3
${say}`)
      assert.deepStrictEqual(own(yield* scores({ mine }, 7)), [1, 1, 1])
    })
  )

  const wrong: ReadonlyArray<readonly [what: string, mine: object, message: RegExp]> = [
    ["says too few values", python(`scores = [1]\n${say}`), /python3 reward\.py\) said 1 values for 3 completions/],
    ["says NaN", python(`scores = [1, float("nan"), 1]\n${say}`), /said NaN \(which JSON does not know\)/],
    [
      "says a text",
      python(`scores = [1, "high", 1]\n${say}`),
      /said "high" for completion 1 of the batch \(prompt s1\)/
    ],
    ["throws", python(`raise ValueError("no")`), /ended: exit code 1\. What it wrote to stderr is in the task's log/],
    ["dies", python(`os.kill(os.getpid(), 9)`), /ended: signal SIGKILL/],
    [
      "writes rubbish",
      python(`print("scoring...", flush=True)`),
      /no answer of the protocol: "scoring\.\.\." is no JSON.*stderr/
    ],
    [
      "writes before it is asked",
      { ...python(`scores = [1, 1, 1]\n${say}`, `print("hello", flush=True)`) },
      /"hello" (stood on stdout|is no JSON)/
    ],
    [
      "answers another request",
      python(`print('{"id": 9, "scores": [1, 1, 1]}', flush=True)`),
      /an answer to request 9 came when 0 was asked/
    ],
    ["hangs", { ...python(`time.sleep(60)`), timeout: 0.5 }, /not answered after 0\.5 s/],
    [
      "is not there",
      { exec: ["no-such-command"], version: "1" },
      /cannot be reached: no-such-command cannot be started/
    ]
  ]
  it.live.each(wrong)("that %s fails the task", ([, mine, message]) =>
    Effect.gen(function* () {
      assert.match((yield* failure({ mine })).message, message)
    })
  )
})

const serving = <A, E>(listener: RequestListener, use: (url: string) => Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.promise(
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer(listener)
          server.listen(0, "127.0.0.1", () => resolve(server))
        })
    ),
    (server) => use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/score`),
    (server) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )

describe("a reward from a service", () => {
  it.live("posts batches; tries again what may pass", () => {
    let asked = 0
    const listener: RequestListener = async (request, response) => {
      let text = ""
      for await (const part of request) text += part
      if (asked++ === 0) return void response.writeHead(503).end("warming up")
      const { id, rows } = JSON.parse(text)
      response.end(JSON.stringify({ id, scores: rows.map((row: { completion: string }) => row.completion.length) }))
    }
    return serving(listener, (http) =>
      Effect.gen(function* () {
        assert.deepStrictEqual(own(yield* scores({ mine: { http, version: "1" } })), [5, 21, 31])
        assert.strictEqual(asked, 2)
      })
    )
  })

  const wrong: ReadonlyArray<readonly [what: string, listener: RequestListener, message: RegExp, timeout?: number]> = [
    [
      "refuses",
      (_, response) => void response.writeHead(404).end("nothing here"),
      /refused with status 404, "nothing here"/
    ],
    [
      "stays away",
      (_, response) => void response.writeHead(500).end(),
      /cannot be reached: status 500, for 3 s; start the service/,
      3
    ],
    ["hangs", () => undefined, /not answered after 0\.6 s/, 0.6],
    ["says rubbish", (_, response) => void response.end("<html>"), /no answer of the protocol: "<html>" is no JSON/]
  ]
  it.live.each(wrong)("that %s fails the task", ([, listener, message, timeout]) =>
    serving(listener, (http) =>
      Effect.gen(function* () {
        const mine = { http, version: "1", ...(timeout === undefined ? {} : { timeout }) }
        assert.match((yield* failure({ mine })).message, message)
      })
    )
  )

  it.live("that is not there fails the task", () =>
    Effect.gen(function* () {
      const mine = { http: "http://127.0.0.1:9/score", version: "1", timeout: 3 }
      assert.match((yield* failure({ mine })).message, /cannot be reached: .*for 3 s/)
    })
  )
})

describe("a scheduled weight", () => {
  it.live("moves in a straight line with the step and stays; the row holds the one that was used", () =>
    Effect.gen(function* () {
      const mine = { ...module("() => 2"), weight: { from: 1, to: 0, steps: 4 } }
      const tagged = { tag: { weight: { from: 0, to: -10, steps: 2 } } }
      const spots = [
        [0, 1, 0],
        [1, 0.75, -5],
        [4, 0, -10],
        [9, 0, -10]
      ] as const
      const firsts = yield* Effect.scoped(
        Effect.flatMap(open({ mine, ...tagged }), (reward) =>
          Effect.forEach(spots, ([step]) => Effect.map(reward.score(estimator, batch, step), (all) => all[0]!))
        )
      )
      for (const [k, [, weight, tagWeight]] of spots.entries()) {
        const first = firsts[k]!
        assert.deepStrictEqual(
          first.rows.slice(0, 3).map((row) => row.weight),
          [0, tagWeight, weight]
        )
        // No strict form: the tag's value is -0.2.
        assert.closeTo(first.reward, 2 * weight - 0.2 * tagWeight, 1e-12)
      }
    })
  )
})
