/**
 * A reward from a command of the user's: one process for the whole task, started at once, a batch a line on its stdin,
 * an answer a line on its stdout (`answers.ts`); its stderr goes to the task's log. It runs in the folder of the first
 * file that the command names, in a process group of its own, so that Ctrl-C reaches it only through the task.
 */
import { spawn } from "node:child_process"
import { basename, dirname } from "node:path"
import { Effect } from "effect"
import { type Asked, checked, failedWith, type Origin, readAnswer, request, type Scorer } from "./answers.ts"
import type { Reason } from "./RewardFailed.ts"
import type { ExecReward } from "./section.ts"

/** The longest line that is waited for: scores of a batch are kilobytes. */
const longest = 64 << 20

interface Command {
  readonly ask: (line: string, seconds: number, of: number) => Effect.Effect<string, Reason>
  readonly end: Effect.Effect<void>
}

const start = (words: readonly [string, ...Array<string>], cwd: string | undefined): Command => {
  const [file, ...args] = words
  const child = spawn(file, args, {
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
    ...(cwd === undefined ? {} : { cwd })
  })
  let over: Reason | undefined
  let heard: ((said: string | Reason) => void) | undefined
  /** Written before anybody asked: no answer, so whoever asks next is told. */
  let early: string | undefined
  let partial = ""
  const hear = (said: string | Reason): void => {
    const listener = heard
    heard = undefined
    if (listener !== undefined) listener(said)
    else if (typeof said === "string") early ??= said
  }
  const ended = (reason: Reason): void => {
    over ??= reason
    hear(over)
  }
  child.on("error", (cause) =>
    ended({ _tag: "Unreachable", detail: `${file} cannot be started (${cause.message}); is it installed here?` })
  )
  // `close` comes after the last line was read.
  child.on("close", (code, signal) =>
    ended({ _tag: "Died", detail: signal === null ? `exit code ${code}` : `signal ${signal}` })
  )
  // Whoever writes to a process that has ended learns it by its end.
  child.stdin.on("error", () => undefined)
  child.stdout.setEncoding("utf8")
  child.stdout.on("data", (text: string) => {
    const lines = (partial + text).split("\n")
    partial = lines.pop() ?? ""
    for (const line of lines) if (line.trim() !== "") hear(line)
    if (partial.length > longest) ended({ _tag: "Garbled", detail: `a line of more than ${longest} characters` })
  })
  const kill = (): void => {
    try {
      process.kill(-(child.pid ?? 0), "SIGKILL")
    } catch {
      child.kill("SIGKILL")
    }
  }
  return {
    ask: (line, seconds, of) =>
      Effect.callback<string, Reason>((resume) => {
        const stray = early
        if (over !== undefined) return resume(Effect.fail(over))
        if (stray !== undefined) {
          const detail = `${JSON.stringify(stray.slice(0, 200))} stood on stdout though nothing was asked`
          return resume(Effect.fail({ _tag: "Garbled", detail }))
        }
        const timer = setTimeout(() => hear({ _tag: "TimedOut", seconds, of }), seconds * 1000)
        heard = (said) => {
          clearTimeout(timer)
          resume(typeof said === "string" ? Effect.succeed(said) : Effect.fail(said))
        }
        child.stdin.write(`${line}\n`)
      }),
    end: Effect.sync(() => {
      child.stdin.end()
      if (over === undefined) kill()
    })
  }
}

export const openCommand = Effect.fn("reward.exec")(function* (name: string, section: ExecReward) {
  const words = section.exec.map((word) => (typeof word === "string" ? word : word.path))
  const file = section.exec.find((word) => typeof word !== "string")
  const origin: Origin = {
    reward: name,
    origin: section.exec.map((word) => (typeof word === "string" ? word : basename(word.path))).join(" ")
  }
  const command = yield* Effect.acquireRelease(
    Effect.try({
      try: () => start(words as [string, ...Array<string>], file === undefined ? undefined : dirname(file.path)),
      catch: (cause) => failedWith(origin, { _tag: "Unreachable", detail: String(cause) })
    }),
    ({ end }) => end
  )
  let next = 0
  const score = Effect.fn("reward.exec.score")(function* (batch: ReadonlyArray<Asked>, step: number) {
    const id = next++
    const line = yield* command
      .ask(request(id, name, step, section.params, batch), section.timeout, batch.length)
      .pipe(Effect.mapError((reason) => failedWith(origin, reason)))
    const answer = readAnswer(line, id)
    if ("_tag" in answer) return yield* failedWith(origin, answer)
    return yield* checked(origin, answer.scores, batch)
  })
  const scorer: Scorer = { name, embeddings: false, score }
  return scorer
})
