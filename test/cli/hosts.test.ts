/** Several hosts on the command line: a run says that it has one, and what is wrong with the environment comes before any waiting. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { afterAll, afterEach, vi } from "vitest"
import { several } from "../../src/cli/machine.ts"
import { main } from "../../src/main.ts"

const home = mkdtempSync(join(tmpdir(), "overtone-cli-hosts-"))
const climb = join(import.meta.dirname, "project", "experiments", "climb.yaml")

describe("several hosts", () => {
  afterEach(() => vi.unstubAllEnvs())
  afterAll(() => rmSync(home, { recursive: true, force: true }))

  const ends = (
    argv: ReadonlyArray<string>,
    environment: Readonly<Record<string, string>>,
    said: RegExp
  ): Effect.Effect<void> =>
    Effect.gen(function* () {
      for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value)
      const warehouse = join(home, "store")
      const code = yield* main(["--warehouse", warehouse, ...argv])
      const errors = (yield* TestConsole.errorLines).join("\n")
      assert.strictEqual(code, 2, errors)
      assert.match(errors, said)
      assert.isFalse(existsSync(warehouse))
    }).pipe(Effect.provide(TestConsole.layer))

  const two = { OVERTONE_COORDINATOR: "127.0.0.1:9", OVERTONE_HOSTS: "2", OVERTONE_HOST_ID: "0" }

  it.live("a run of one of several hosts ends before any task", () =>
    ends(["run", climb], two, /OVERTONE_HOSTS=2: a task runs on one host in this version\. Unset it/)
  )

  it.live("an executor file may name them: a run ends as it does, and a number that is not said is asked for", () =>
    Effect.gen(function* () {
      const file = join(home, "hosts.yaml")
      writeFileSync(file, 'device: xla:cpu\nhosts: { coordinator: "127.0.0.1:9", count: 2 }\n')
      const where = ["--executor", file]
      yield* ends(
        [...where, "run", climb],
        { OVERTONE_HOST_ID: "1" },
        /OVERTONE_HOSTS=2: .*`hosts` out of the executor/
      )
      yield* ends([...where, "device", "hosts"], { OVERTONE_HOST_ID: "" }, /OVERTONE_HOSTS=2 needs OVERTONE_HOST_ID/)
      yield* ends([...where, "device", "hosts"], { OVERTONE_HOST_ID: "2" }, /OVERTONE_HOST_ID=2 is none of 2 hosts/)
    })
  )

  it.live("half of what has to be said is refused", () =>
    ends(["run", climb], { OVERTONE_HOSTS: "2" }, /OVERTONE_HOSTS=2 needs OVERTONE_COORDINATOR, the address HOST:PORT/)
  )

  it.live("exp doctor speaks of them where the environment does", () =>
    Effect.gen(function* () {
      const said = (environment: Readonly<Record<string, string>>) => Effect.promise(() => several(environment))
      assert.deepStrictEqual(yield* said({}), [])
      const [named] = yield* said(two)
      assert.strictEqual(named?.state, "warn")
      assert.match(named?.detail ?? "", /^host 0 of 2, which meet at 127\.0\.0\.1:9$/)
      const [wrong] = yield* said({ ...two, OVERTONE_HOST_ID: "2" })
      assert.strictEqual(wrong?.state, "fail")
      assert.match(wrong?.detail ?? "", /OVERTONE_HOST_ID=2 is none of 2 hosts/)
    })
  )

  it.live("exp device hosts: on a device of one host, and without any", () =>
    Effect.andThen(
      ends(["device", "hosts", "--device", "cpu"], two, /the device cpu is of one host: name xla:cuda/),
      ends(
        ["device", "hosts", "--device", "xla:cpu"],
        { OVERTONE_COORDINATOR: "", OVERTONE_HOSTS: "", OVERTONE_HOST_ID: "" },
        /no hosts are named: set OVERTONE_COORDINATOR, OVERTONE_HOSTS and OVERTONE_HOST_ID/
      )
    )
  )
})
