/** The table of operations on XLA's CPU plugin. */
import { ManagedRuntime } from "effect"
import { afterAll, describe } from "vitest"
import { checkBackend } from "../../tensor/cases.ts"
import { runOnce } from "../support.ts"
import { absent, titled, xlaCpu } from "./support.ts"

describe.skipIf(absent !== undefined)(titled("XLA"), () => {
  const runtime = ManagedRuntime.make(xlaCpu)
  afterAll(() => runtime.dispose())
  checkBackend("XLA's CPU plugin", (program, feeds) => runtime.runPromise(runOnce(program, feeds)))
})
