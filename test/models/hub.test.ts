import { createHash } from "node:crypto"
import { statSync } from "node:fs"
import { createServer, type Server } from "node:http"
import type { AddressInfo } from "node:net"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect } from "effect"
import { FileSystem } from "effect/FileSystem"
import { find, type HubOptions, parseReference } from "../../src/models/hub.ts"

const commit = "0123456789abcdef0123456789abcdef01234567"
const weights = new Uint8Array(200_000).map((_, i) => (i * 31) % 251)
const files: Record<string, Uint8Array> = {
  "config.json": new TextEncoder().encode('{"model_type":"llama"}'),
  "model.safetensors": weights,
  "1_Pooling/config.json": new TextEncoder().encode("{}"),
  "onnx/model.onnx": new Uint8Array(10)
}

const resolve = (reference: string, options: HubOptions) =>
  Effect.map(find(reference, options), ({ commit: found, folder }) => {
    assert.strictEqual(found, reference.startsWith("hf:") ? commit : null)
    return folder
  })

interface State {
  readonly gets: Array<string>
  truncate: number
  /** A connection is cut only when this is so. */
  arrived: () => boolean
  corrupt: boolean
  down: boolean
}

/** What the hub does, for one repository `org/name`; `state` lets a test break it. */
const hub = Effect.acquireRelease(
  Effect.callback<{ url: string; state: State; server: Server }>((resume) => {
    const state = {
      gets: [] as string[],
      truncate: Number.POSITIVE_INFINITY,
      arrived: () => true,
      corrupt: false,
      down: false
    }
    const server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url!, "http://x").pathname)
      const json = (value: unknown) => {
        response.setHeader("content-type", "application/json")
        response.end(JSON.stringify(value))
      }
      if (state.down) {
        response.statusCode = 503
        return void response.end()
      }
      if (path === "/api/models/org/name/revision/main" || path === `/api/models/org/name/revision/${commit}`) {
        return json({ _id: "1", id: "org/name", sha: commit, lastModified: "2026-01-01T00:00:00Z" })
      }
      if (path === `/api/models/org/name/tree/${commit}`) {
        return json(
          Object.entries(files).map(([path, bytes]) => {
            const oid = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")
            const lfs = {
              oid: createHash("sha256").update(bytes).digest("hex"),
              size: bytes.length,
              pointerSize: 130
            }
            return { type: "file", path, size: bytes.length, oid, ...(path === "model.safetensors" ? { lfs } : {}) }
          })
        )
      }
      const prefix = `/org/name/resolve/${commit}/`
      const bytes = path.startsWith(prefix) ? files[path.slice(prefix.length)] : undefined
      if (bytes === undefined) {
        response.statusCode = 404
        return void response.end()
      }
      const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "")
      const start = Number(range?.[1] ?? 0)
      const end = Math.min(Number(range?.[2] ?? bytes.length - 1), bytes.length - 1)
      if (end !== 0) state.gets.push(`${path.slice(prefix.length)}@${start}`)
      response.setHeader("etag", '"x"')
      if (range !== null) {
        response.statusCode = 206
        response.setHeader("content-range", `bytes ${start}-${end}/${bytes.length}`)
      }
      const body = bytes.slice(start, end + 1)
      if (state.corrupt) body[0]! ^= 1
      response.setHeader("content-length", body.length)
      if (body.length <= state.truncate) return void response.end(body)
      const cut = () => (state.arrived() ? response.destroy() : setTimeout(cut, 5))
      response.write(body.subarray(0, state.truncate), cut)
    })
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo
      resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, state, server }))
    })
  }),
  ({ server }) => Effect.sync(() => server.close())
)

const setUp = Effect.gen(function* () {
  const fs = yield* FileSystem
  const { state, url } = yield* hub
  const cache = yield* fs.makeTempDirectoryScoped()
  return { fs, state, cache, options: { cache, endpoint: url } }
})

describe("reference", () => {
  it("is hf://org/name[@revision], anything else a path", () => {
    assert.deepStrictEqual(parseReference("hf://a/b.c-1"), { name: "a/b.c-1", revision: "main" })
    assert.deepStrictEqual(parseReference("hf://a/b@refs/pr/1"), { name: "a/b", revision: "refs/pr/1" })
    assert.isUndefined(parseReference("./models/b"))
  })
})

layer(NodeServices.layer, { excludeTestServices: true })("hub", (it) => {
  it.effect("downloads the model files of a revision once", () =>
    Effect.gen(function* () {
      const { fs, options, state } = yield* setUp
      const folder = yield* resolve("hf://org/name", options)
      assert.strictEqual(folder, `${options.cache}/org--name/${commit}`)
      assert.deepStrictEqual(new Uint8Array(yield* fs.readFile(`${folder}/model.safetensors`)), weights)
      assert.deepStrictEqual((yield* fs.readDirectory(folder)).sort(), [
        "1_Pooling",
        "config.json",
        "model.safetensors"
      ])
      const gets = state.gets.length
      assert.strictEqual(yield* resolve("hf://org/name", options), folder)
      assert.strictEqual(state.gets.length, gets)
      // a commit that is there needs no hub, and neither does a branch that was looked up before
      state.down = true
      assert.strictEqual(yield* resolve(`hf://org/name@${commit}`, options), folder)
      assert.strictEqual(yield* resolve("hf://org/name", options), folder)
    })
  )

  it.effect("goes on where an interrupted download stopped", () =>
    Effect.gen(function* () {
      const { fs, options, state } = yield* setUp
      const part = `${options.cache}/org--name/${commit}.partial/model.safetensors.incomplete`
      state.truncate = 100_000
      state.arrived = () => (statSync(part, { throwIfNoEntry: false })?.size ?? 0) > 0
      yield* Effect.flip(resolve("hf://org/name", options))
      const have = Number((yield* fs.stat(part)).size)
      assert.isAbove(have, 0)
      assert.isFalse(yield* fs.exists(`${options.cache}/org--name/${commit}`))
      state.truncate = Number.POSITIVE_INFINITY
      state.gets.length = 0
      const folder = yield* resolve("hf://org/name", options)
      assert.include(state.gets, `model.safetensors@${have}`)
      assert.notInclude(state.gets, "config.json@0")
      assert.deepStrictEqual(new Uint8Array(yield* fs.readFile(`${folder}/model.safetensors`)), weights)
    })
  )

  it.effect("refuses a file that arrives damaged, and starts it anew", () =>
    Effect.gen(function* () {
      const { options, state } = yield* setUp
      state.corrupt = true
      const error = yield* Effect.flip(resolve("hf://org/name", options))
      assert.match(error.message, /arrived, .* were announced; run again/)
      state.corrupt = false
      yield* resolve("hf://org/name", options)
    })
  )

  it.effect("says what to do about names that do not exist", () =>
    Effect.gen(function* () {
      const { options } = yield* setUp
      const missing = yield* Effect.flip(resolve("hf://org/other", options))
      assert.strictEqual(missing.reason._tag, "HubProblem")
      assert.match(missing.message, /org\/other@main: .*check the name and the revision/)
      const path = yield* Effect.flip(resolve("/nowhere/at/all", options))
      assert.match(path.message, /\/nowhere\/at\/all: does not exist; name a model folder, or hf:/)
      assert.match((yield* Effect.flip(resolve("hf:org", options))).message, /write hf:\/\/org\/name@revision/)
    })
  )
})
