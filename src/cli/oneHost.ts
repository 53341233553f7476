/** Whether the environment speaks of several hosts (`device/hosts.ts`), of which a task knows nothing in this version. */
import { Effect } from "effect"
import { usage } from "./failure.ts"

/** Fails where the environment speaks of several hosts: what is about to run would take this one for all. */
export const oneHost = Effect.gen(function* () {
  const { BadHosts, hostsOf } = yield* Effect.promise(() => import("../device/hosts.ts"))
  const named = yield* Effect.sync(() => {
    try {
      return hostsOf(process.env)
    } catch (error) {
      if (error instanceof BadHosts) return error
      throw error
    }
  })
  if (named instanceof BadHosts) return yield* usage(named.message)
  if (named === undefined) return
  return yield* usage(
    `OVERTONE_HOSTS=${named.count}: a task runs on one host in this version. Unset it (or leave \`hosts\` out of the executor ` +
      "file), and run different experiments on different hosts; `exp device hosts` tries a client over all of them"
  )
})
