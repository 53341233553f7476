/**
 * A reward from a service: a batch is a POST, the answer its body (`answers.ts`). What may pass (no connection, 429,
 * 5xx) is tried again within the batch's time-out, with pauses of 0.25, 0.5, 1, ... seconds; any other status fails.
 */
import { Effect } from "effect"
import { type Asked, checked, failedWith, type Origin, readAnswer, request, type Scorer } from "./answers.ts"
import type { Reason } from "./RewardFailed.ts"
import type { HttpReward } from "./section.ts"

const firstPauseMs = 250

type Tried = { readonly text: string } | { readonly again: string } | { readonly refused: string }

const post = async (url: string, body: string, signal: AbortSignal): Promise<Tried> => {
  try {
    const headers = { "content-type": "application/json", accept: "application/json" }
    const response = await fetch(url, { method: "POST", body, headers, signal })
    const text = await response.text()
    if (response.ok) return { text }
    const said = `status ${response.status}${text === "" ? "" : `, ${JSON.stringify(text.slice(0, 200))}`}`
    return response.status === 429 || response.status >= 500 ? { again: said } : { refused: said }
  } catch (cause) {
    if (signal.aborted) throw cause
    const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
    return { again: inner instanceof Error ? inner.message || String(inner) : String(inner) }
  }
}

/** The body of the answer, after as many tries as the time allows. */
const ask = (url: string, body: string, seconds: number, of: number): Effect.Effect<string, Reason> =>
  Effect.gen(function* () {
    let last = ""
    const tries = Effect.gen(function* () {
      for (let pause = firstPauseMs; ; pause *= 2) {
        const tried = yield* Effect.promise((signal) => post(url, body, signal))
        if (!("again" in tried)) return tried
        last = tried.again
        yield* Effect.sleep(pause)
      }
    })
    const got = yield* Effect.timeoutOption(tries, seconds * 1000)
    if (got._tag === "None") {
      const reason: Reason =
        last === ""
          ? { _tag: "TimedOut", seconds, of }
          : { _tag: "Unreachable", detail: `${last}, for ${seconds} s; start the service, or correct the URL` }
      return yield* Effect.fail(reason)
    }
    if ("text" in got.value) return got.value.text
    return yield* Effect.fail<Reason>({ _tag: "Unreachable", detail: `the service refused with ${got.value.refused}` })
  })

export const openService = (name: string, section: HttpReward): Scorer => {
  const origin: Origin = { reward: name, origin: section.http }
  let next = 0
  const score = Effect.fn("reward.http.score")(function* (batch: ReadonlyArray<Asked>, step: number) {
    const id = next++
    const body = request(id, name, step, section.params, batch)
    const text = yield* ask(section.http, body, section.timeout, batch.length).pipe(
      Effect.mapError((reason) => failedWith(origin, reason))
    )
    const answer = readAnswer(text, id)
    if ("_tag" in answer) return yield* failedWith(origin, answer)
    return yield* checked(origin, answer.scores, batch)
  })
  return { name, embeddings: false, score }
}
