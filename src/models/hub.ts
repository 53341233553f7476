/**
 * From a model's name to a folder on this machine: `hf://org/name[@revision]`, or a path.
 *
 * A revision is resolved to a commit, and the commit's model files (JSON, chat template, safetensors) are downloaded into
 * `<cache>/<org>--<name>/<commit>`. Every file is checked (size; SHA-256 or git object id) before the folder gets its name,
 * so a folder that exists is complete; an interrupted download goes on where it stopped. A commit that is there is never
 * fetched again, and a branch that cannot be looked up (no network) falls back to the commit it last stood for, saying so.
 * A branch is looked up whenever a stage runs that names it; what it found is done and kept under the name that was written,
 * so a later commit of the branch makes nothing stale. Name a commit where that matters.
 */
import { createHash } from "node:crypto"
import { downloadFile, type ListFileEntry, listFiles, modelInfo } from "@huggingface/hub"
import { Config, Effect, Stream } from "effect"
import { FileSystem } from "effect/FileSystem"
import { BadRequest, FileProblem, fail, HubProblem, ModelError } from "./ModelError.ts"
import { refused } from "./refused.ts"

export interface HubOptions {
  /** Folder of downloaded models. Default: `OVERTONE_CACHE`, else `~/.cache/overtone`. */
  readonly cache?: string
  /** Where the hub is. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string
}

export interface HubReference {
  readonly name: string
  readonly revision: string
}

/** `hf://org/name@revision` taken apart (revision `main` by default); undefined for a path. */
export const parseReference = (reference: string): HubReference | undefined => {
  const match = /^hf:\/\/([\w.-]+\/[\w.-]+)(?:@([\w./-]+))?$/.exec(reference)
  return match === null ? undefined : { name: match[1]!, revision: match[2] ?? "main" }
}

/** What is downloaded of a repository: model files, not its pictures, ONNX exports or pickles. */
const wanted = (path: string) =>
  /^[\w.-]+\.(json|jinja|safetensors)$/.test(path) || /^\d+_\w+\/(config\.json|model\.safetensors)$/.test(path)

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision)

const problem = (file: string) => refused(file, "read or written")

const remedies: Readonly<Record<number, string>> = {
  401: "the name may be wrong, or the model private or gated: set HF_TOKEN to a token that may read it",
  403: "the model is private or gated: accept its licence on its page and set HF_TOKEN",
  404: "check the name and the revision: hf://org/name@revision",
  429: "the hub limits requests: wait, or set HF_TOKEN"
}

const asHubProblem = (url: string) => (cause: unknown) => {
  if (cause instanceof ModelError) return cause
  const status =
    typeof cause === "object" && cause !== null && "statusCode" in cause ? Number(cause.statusCode) : undefined
  return fail(
    new HubProblem({
      url,
      detail: cause instanceof Error ? cause.message : String(cause),
      remedy:
        (status === undefined ? undefined : remedies[status]) ??
        "check the connection, or download the folder by other means and give its path"
    })
  )
}

/** Where a model lies. */
export interface Found {
  readonly folder: string
  /** What the revision stood for; null for a folder of this machine. */
  readonly commit: string | null
}

/** The folder of a model, downloaded first where it is an `hf://` reference that is not in the cache yet. */
export const find = Effect.fn("hub.find")(function* (
  reference: string,
  options: HubOptions = {}
): Effect.fn.Return<Found, ModelError, FileSystem> {
  const fs = yield* FileSystem
  const parsed = parseReference(reference)
  if (parsed === undefined) {
    if (reference.startsWith("hf:")) {
      return yield* fail(new BadRequest({ detail: `${reference} is no model reference; write hf://org/name@revision` }))
    }
    if (!(yield* fs.exists(reference).pipe(Effect.mapError(problem(reference))))) {
      return yield* fail(
        new FileProblem({ file: reference, detail: "does not exist; name a model folder, or hf://org/name@revision" })
      )
    }
    return { folder: reference, commit: null }
  }
  const env = yield* Effect.orDie(
    Config.all({
      endpoint: Config.String("HF_ENDPOINT").pipe(Config.withDefault("https://huggingface.co")),
      token: Config.String("HF_TOKEN").pipe(Config.withDefault("")),
      cache: Config.String("OVERTONE_CACHE").pipe(Config.withDefault("")),
      home: Config.String("HOME").pipe(Config.withDefault("."))
    })
  )
  const endpoint = options.endpoint ?? env.endpoint
  const cache = options.cache ?? (env.cache === "" ? `${env.home}/.cache/overtone` : env.cache)
  const hub = { hubUrl: endpoint, ...(env.token === "" ? {} : { accessToken: env.token }) }
  const { name, revision } = parsed
  const url = `${endpoint}/${name}@${revision}`
  const folder = `${cache}/${name.replace("/", "--")}`
  yield* fs.makeDirectory(folder, { recursive: true }).pipe(Effect.mapError(problem(folder)))

  if (isCommit(revision) && (yield* fs.exists(`${folder}/${revision}`).pipe(Effect.mapError(problem(folder))))) {
    return { folder: `${folder}/${revision}`, commit: revision }
  }
  const reference_ = `${folder}/ref-${revision.replaceAll("/", "--")}`
  const commit = yield* Effect.tryPromise({
    try: () => modelInfo({ ...hub, name, revision, additionalFields: ["sha"] }),
    catch: asHubProblem(url)
  }).pipe(
    Effect.map(({ sha }) => sha),
    Effect.catch((error) =>
      Effect.gen(function* () {
        const known = yield* fs.readFileString(reference_).pipe(Effect.orElseSucceed(() => undefined))
        if (known === undefined || !(yield* fs.exists(`${folder}/${known}`).pipe(Effect.orElseSucceed(() => false)))) {
          return yield* error
        }
        yield* Effect.logWarning(`${error.message}; using ${known}, which ${revision} last stood for`)
        return known
      })
    )
  )
  const target = `${folder}/${commit}`
  if (!(yield* fs.exists(target).pipe(Effect.mapError(problem(target))))) {
    const entries = yield* Stream.fromAsyncIterable(
      listFiles({ ...hub, repo: { type: "model", name }, revision: commit, recursive: true }),
      asHubProblem(url)
    ).pipe(Stream.runCollect)
    const files = entries.filter((entry) => entry.type === "file" && wanted(entry.path))
    if (!files.some(({ path }) => path.endsWith(".safetensors"))) {
      return yield* fail(
        new HubProblem({
          url,
          detail: "the repository holds no safetensors",
          remedy: "convert it with the hub's safetensors space, or take another revision"
        })
      )
    }
    const partial = `${target}.partial`
    for (const entry of files) yield* download(hub, name, commit, partial, entry)
    yield* fs.rename(partial, target).pipe(Effect.mapError(problem(target)))
  }
  yield* fs.writeFileString(reference_, commit).pipe(Effect.mapError(problem(reference_)))
  return { folder: target, commit }
})

/** Downloads one file into `partial`, going on after the bytes that are there, and checks it. */
const download = Effect.fnUntraced(function* (
  hub: { readonly hubUrl: string; readonly accessToken?: string },
  name: string,
  commit: string,
  partial: string,
  entry: ListFileEntry
) {
  const fs = yield* FileSystem
  const file = `${partial}/${entry.path}`
  const url = `${hub.hubUrl}/${name}/resolve/${commit}/${entry.path}`
  const done = yield* fs.exists(file).pipe(Effect.mapError(problem(file)))
  if (done) return
  const part = `${file}.incomplete`
  yield* fs
    .makeDirectory(file.slice(0, file.lastIndexOf("/")), { recursive: true })
    .pipe(Effect.mapError(problem(file)))
  const have = yield* fs.stat(part).pipe(
    Effect.map((info) => Number(info.size)),
    Effect.orElseSucceed(() => 0)
  )
  const start = have < entry.size ? have : 0
  const blob = yield* Effect.tryPromise({
    try: () => downloadFile({ ...hub, repo: { type: "model", name }, revision: commit, path: entry.path }),
    catch: asHubProblem(url)
  })
  if (blob === null) return yield* asHubProblem(url)(Object.assign(new Error("not found"), { statusCode: 404 }))
  yield* Stream.fromReadableStream({
    evaluate: () => (start === 0 ? blob : blob.slice(start)).stream(),
    onError: asHubProblem(url)
  }).pipe(Stream.run(fs.sink(part, { flag: start === 0 ? "w" : "a" })), Effect.mapError(mixedProblem(url, part)))

  const size = Number((yield* fs.stat(part).pipe(Effect.mapError(problem(part)))).size)
  const hash = entry.lfs === undefined ? createHash("sha1").update(`blob ${size}\0`) : createHash("sha256")
  yield* fs.stream(part).pipe(
    Stream.runForEach((chunk) => Effect.sync(() => void hash.update(chunk))),
    Effect.mapError(problem(part))
  )
  const found = hash.digest("hex")
  const expected = entry.lfs?.oid ?? entry.oid
  if (size !== entry.size || (expected !== undefined && found !== expected)) {
    yield* fs.remove(part).pipe(Effect.mapError(problem(part)))
    return yield* fail(
      new HubProblem({
        url,
        detail: `${size} bytes with hash ${found} arrived, ${entry.size} with ${expected} were announced`,
        remedy: "run again to fetch it anew"
      })
    )
  }
  yield* fs.rename(part, file).pipe(Effect.mapError(problem(file)))
})

const mixedProblem = (url: string, file: string) => (error: unknown) =>
  error instanceof ModelError
    ? error
    : typeof error === "object" && error !== null && "_tag" in error && error._tag === "PlatformError"
      ? problem(file)({ message: String(error), cause: "cause" in error ? error.cause : undefined })
      : asHubProblem(url)(error)
