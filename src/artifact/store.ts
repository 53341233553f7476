/**
 * The content-addressed store: `artifacts/<sha256>/`, read-only, each with its `manifest.json` whose hash is its name
 * (docs/formats.md). Equal bytes are kept once. What is read is verified first; what is corrupt is moved aside and
 * named, so that the task that made it runs again.
 */
import { existsSync } from "node:fs"
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Schema, Semaphore } from "effect"
import { DiskFull, errnoOf, FileTrouble, fileFailure, PermissionDenied } from "./FileFailure.ts"
import {
  type FileEntry,
  hashFolder,
  identify,
  listFiles,
  manifestText,
  NotPlain,
  sha256,
  syncFolder
} from "./folder.ts"

export class Corrupt extends Schema.TaggedError<Corrupt>()("Corrupt", {
  sha256: Schema.String,
  detail: Schema.String,
  movedTo: Schema.String
}) {
  override get message() {
    return `artifact ${this.sha256.slice(0, 12)} is corrupt (${this.detail}); it was moved to ${this.movedTo} and the task that made it runs again`
  }
}

export class Missing extends Schema.TaggedError<Missing>()("Missing", { sha256: Schema.String }) {
  override get message() {
    return `artifact ${this.sha256.slice(0, 12)} is not in the store; the task that made it runs again`
  }
}

export class Unpublishable extends Schema.TaggedError<Unpublishable>()("Unpublishable", {
  path: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `the output ${this.path} cannot be published: ${this.detail}`
  }
}

/** Everything that can go wrong between a folder and the store. */
export class StoreError extends Schema.TaggedError<StoreError>()("StoreError", {
  reason: Schema.Union([Corrupt, Missing, Unpublishable, DiskFull, PermissionDenied, FileTrouble])
}) {
  override get message() {
    return this.reason.message
  }
}

export interface Published {
  readonly sha256: string
  /** Sum over the files, without the manifest. */
  readonly bytes: number
}

export interface Store {
  /** Whether an artifact of this name is there (not whether its bytes are sound). */
  readonly has: (sha256: string) => boolean
  readonly dir: (sha256: string) => string
  /**
   * Takes the folder `dir` (on the same file system) into the store: its bytes are on disk, it is moved, its files are
   * read-only. A folder whose bytes are there already is removed. `expected` fails it if the bytes are others.
   */
  readonly publish: (dir: string, kind: string, expected?: string) => Effect.Effect<Published, StoreError>
  /** The folder of an artifact, all its bytes verified: hashed the first time, then compared by size, mtime and inode. */
  readonly verify: (sha256: string) => Effect.Effect<string, StoreError>
}

const manifestFile = "manifest.json"
const Stored = Schema.fromJsonString(
  Schema.Struct({
    format: Schema.Literal(1),
    kind: Schema.String,
    files: Schema.Array(Schema.Struct({ path: Schema.String, bytes: Schema.Int, sha256: Schema.String }))
  })
)
const decodeManifest = Schema.decodeUnknownSync(Stored)
const decodeManifestOption = Schema.decodeUnknownOption(Stored)

/** Why a stage may not call a file so, at the top of an output. */
export const reservedName = `${manifestFile} is the store's own name at the top of an artifact: give the file another`

/** @param root the warehouse directory; artifacts are kept in `<root>/artifacts`. */
export const makeStore = (root: string): Store => {
  const home = join(root, "artifacts")
  const dir = (name: string): string => join(home, name)
  const seen = new Map<string, string>()
  // One at a time: two tasks may come to the same bytes, or find the same damage, at the same moment.
  const turns = Semaphore.makeUnsafe(1)

  const attempt = <A>(operation: string, path: string, work: () => Promise<A>): Effect.Effect<A, StoreError> =>
    Effect.tryPromise({
      try: work,
      catch: (cause) => {
        if (cause instanceof StoreError) return cause
        if (cause instanceof NotPlain)
          return new StoreError({ reason: new Unpublishable({ path: cause.file, detail: cause.message }) })
        return new StoreError({ reason: fileFailure(operation, path)(cause) })
      }
    }).pipe(turns.withPermit)

  const moveAside = async (name: string, detail: string): Promise<StoreError> => {
    seen.delete(name)
    const taken = new Set(await readdir(home))
    let n = 1
    while (taken.has(`.corrupt-${name}-${n}`)) n++
    const aside = `.corrupt-${name}-${n}`
    await rename(dir(name), join(home, aside))
    await syncFolder(home)
    return new StoreError({ reason: new Corrupt({ sha256: name, detail, movedTo: `artifacts/${aside}` }) })
  }

  const stamp = async (name: string): Promise<string> => {
    const parts: Array<string> = []
    for (const path of await listFiles(dir(name))) {
      const s = await stat(join(dir(name), path))
      parts.push(`${path} ${s.size} ${s.mtimeMs} ${s.ino}`)
    }
    return parts.join("\n")
  }

  const difference = (recorded: ReadonlyArray<FileEntry>, found: ReadonlyArray<FileEntry>): string | undefined => {
    const there = new Map(found.filter((f) => f.path !== manifestFile).map((f) => [f.path, f]))
    for (const file of recorded) {
      const actual = there.get(file.path)
      if (actual === undefined) return `${file.path} is missing`
      if (actual.bytes !== file.bytes) return `${file.path} has ${actual.bytes} bytes instead of ${file.bytes}`
      if (actual.sha256 !== file.sha256) return `${file.path} has other bytes than were published`
      there.delete(file.path)
    }
    const [extra] = there.keys()
    return extra === undefined ? undefined : `${extra} does not belong to it`
  }

  const check = async (name: string): Promise<void> => {
    let text: string
    try {
      text = await readFile(join(dir(name), manifestFile), "utf8")
    } catch (cause) {
      if (errnoOf(cause) !== "ENOENT") throw cause
      if (!existsSync(dir(name))) throw new StoreError({ reason: new Missing({ sha256: name }) })
      throw await moveAside(name, "manifest.json is missing")
    }
    if (sha256(text) !== name) throw await moveAside(name, "manifest.json has other bytes than were published")
    const now = await stamp(name)
    if (seen.get(name) === now) return
    const wrong = difference(decodeManifest(text).files, await hashFolder(dir(name)))
    if (wrong !== undefined) throw await moveAside(name, wrong)
    seen.set(name, now)
  }

  const verify = Effect.fn("Store.verify")(function* (name: string) {
    yield* attempt("reading", dir(name), () => check(name))
    return dir(name)
  })

  /** Removes the manifest of a publication that was cut short; a file of that name that is not ours is refused. */
  const clearManifest = async (from: string): Promise<void> => {
    const path = join(from, manifestFile)
    if (!existsSync(path)) return
    if (decodeManifestOption(await readFile(path, "utf8"))._tag === "None") {
      throw new StoreError({ reason: new Unpublishable({ path, detail: reservedName }) })
    }
    await rm(path)
  }

  const publish = Effect.fn("Store.publish")(function* (from: string, kind: string, expected?: string) {
    return yield* attempt("publishing", from, async () => {
      await mkdir(home, { recursive: true })
      await clearManifest(from)
      const files = await hashFolder(from, { sync: true })
      const published = identify(kind, files)
      if (expected !== undefined && published.sha256 !== expected) {
        const detail = `its bytes (${published.sha256.slice(0, 12)}) are not those that the worker wrote (${expected.slice(0, 12)}); the disk or another process changed them`
        throw new StoreError({ reason: new Unpublishable({ path: from, detail }) })
      }
      const target = dir(published.sha256)
      if (existsSync(target)) {
        const sound = await check(published.sha256).then(
          () => true,
          (cause) => {
            if (cause instanceof StoreError && cause.reason._tag === "Corrupt") return false
            throw cause
          }
        )
        if (sound) {
          await rm(from, { recursive: true, force: true })
          return published
        }
      }
      const manifest = await open(join(from, manifestFile), "w")
      try {
        await manifest.writeFile(manifestText(kind, files))
        await manifest.sync()
      } finally {
        await manifest.close()
      }
      for (const path of [...files.map((f) => f.path), manifestFile]) await chmod(join(from, path), 0o444)
      await syncFolder(from)
      await rename(from, target)
      await syncFolder(home)
      seen.set(published.sha256, await stamp(published.sha256))
      return published
    })
  })

  return { has: (name) => existsSync(join(dir(name), manifestFile)), dir, publish, verify }
}
