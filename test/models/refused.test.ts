/** What the file system refuses of a model's files says why, with the remedy. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { refused } from "../../src/models/refused.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("refused")

const writing = (file: string) =>
  Effect.gen(function* () {
    const fs = yield* FileSystem
    return (yield* Effect.flip(fs.writeFileString(file, "text").pipe(Effect.mapError(refused(file, "written")))))
      .message
  }).pipe(Effect.provide(NodeServices.layer))

it.effect.runIf(process.platform === "linux")("a full disk, in the words of the remedy", () =>
  Effect.map(writing("/dev/full"), (message) =>
    assert.strictEqual(message, "/dev/full: cannot be written: no space is left on the device; free some and run again")
  )
)

it.effect("anything else in Node's own words, which name the file", () =>
  Effect.gen(function* () {
    const file = join(fresh(), "a-file")
    writeFileSync(file, "")
    assert.match(yield* writing(join(file, "below")), /a-file\/below: cannot be written: ENOTDIR: not a directory/)
  })
)
