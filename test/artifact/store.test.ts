import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { DiskFull, fileFailure, PermissionDenied } from "../../src/artifact/FileFailure.ts"
import { sha256 } from "../../src/artifact/folder.ts"
import { readRealisation, writeRealisation } from "../../src/artifact/realisation.ts"
import { makeStore } from "../../src/artifact/store.ts"
import { freshFolder } from "../support/folders.ts"

const fresh = freshFolder("store")

const folder = (root: string, name: string, files: Readonly<Record<string, string>>): string => {
  const dir = join(root, name)
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, ".."), { recursive: true })
    writeFileSync(join(dir, path), text)
  }
  return dir
}

const files = { "b.txt": "hello", "a/z.bin": "", "a/B.txt": "x" }

describe("the store", () => {
  it.live("names a folder by the hash of its manifest: sorted paths, bytes and hashes", () =>
    Effect.gen(function* () {
      const root = fresh()
      const store = makeStore(root)
      const published = yield* store.publish(folder(root, "out", files), "report")
      // By hand: sha256("hello"), sha256(""), sha256("x"); "B" sorts before "z" and "a/..." before "b.txt" by code unit.
      const manifest =
        '{"files":[' +
        '{"bytes":1,"path":"a/B.txt","sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"},' +
        '{"bytes":0,"path":"a/z.bin","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},' +
        '{"bytes":5,"path":"b.txt","sha256":"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}' +
        '],"format":1,"kind":"report"}'
      assert.deepStrictEqual(published, { sha256: sha256(manifest), bytes: 6 })
      assert.strictEqual(readFileSync(join(store.dir(published.sha256), "manifest.json"), "utf8"), manifest)
      assert.strictEqual(statSync(join(store.dir(published.sha256), "b.txt")).mode & 0o777, 0o444)
      assert.isFalse(existsSync(join(root, "out")))
      assert.isTrue(store.has(published.sha256))
    })
  )

  it.live("keeps equal bytes once, also when they come at the same moment; another kind is another artifact", () =>
    Effect.gen(function* () {
      const root = fresh()
      const store = makeStore(root)
      const names = ["one", "two", "three"].map((name) => folder(root, name, files))
      const published = yield* Effect.forEach(names, (dir) => store.publish(dir, "report"), { concurrency: 3 })
      assert.strictEqual(new Set(published.map((p) => p.sha256)).size, 1)
      const other = yield* store.publish(folder(root, "four", files), "policy")
      assert.notStrictEqual(other.sha256, published[0]?.sha256)
      assert.strictEqual(readdirSync(join(root, "artifacts")).length, 2)
      assert.deepStrictEqual(readdirSync(root), ["artifacts"])
    })
  )

  it.live("takes up a publication that was cut short, and refuses a file that takes the manifest's name", () =>
    Effect.gen(function* () {
      const root = fresh()
      const store = makeStore(root)
      const first = yield* store.publish(folder(root, "out", files), "report")
      const text = readFileSync(join(store.dir(first.sha256), "manifest.json"), "utf8")
      const again = folder(root, "again", { ...files, "manifest.json": text })
      assert.deepStrictEqual(yield* store.publish(again, "report"), first)
      const taken = yield* Effect.flip(store.publish(folder(root, "taken", { "manifest.json": "{}" }), "report"))
      assert.strictEqual(taken.reason._tag, "Unpublishable")
      assert.include(taken.message, "give the file another")
    })
  )

  it.live("refuses links and bytes that are not those that were announced", () =>
    Effect.gen(function* () {
      const root = fresh()
      const store = makeStore(root)
      const dir = folder(root, "out", files)
      symlinkSync("/etc/hostname", join(dir, "link"))
      assert.include((yield* Effect.flip(store.publish(dir, "report"))).message, "only plain files")
      rmSync(join(dir, "link"))
      const other = yield* Effect.flip(store.publish(dir, "report", "f".repeat(64)))
      assert.include(other.message, "not those that the worker wrote")
      assert.isTrue(existsSync(dir))
    })
  )

  const damages: Readonly<Record<string, (dir: string) => void>> = {
    "a.txt has 5 bytes instead of 6": (dir) => writeFileSync(join(dir, "a.txt"), "four!"),
    "a.txt has other bytes than were published": (dir) => writeFileSync(join(dir, "a.txt"), "sixsiX"),
    "a.txt is missing": (dir) => rmSync(join(dir, "a.txt")),
    "extra.txt does not belong to it": (dir) => writeFileSync(join(dir, "extra.txt"), ""),
    "manifest.json has other bytes than were published": (dir) => writeFileSync(join(dir, "manifest.json"), "{}"),
    "manifest.json is missing": (dir) => rmSync(join(dir, "manifest.json"))
  }
  for (const [detail, damage] of Object.entries(damages)) {
    it.live(`moves a corrupt artifact aside: ${detail}`, () =>
      Effect.gen(function* () {
        const root = fresh()
        const { sha256: name } = yield* makeStore(root).publish(folder(root, "out", { "a.txt": "sixsix" }), "report")
        const dir = join(root, "artifacts", name)
        for (const file of readdirSync(dir)) chmodSync(join(dir, file), 0o644)
        damage(dir)
        const store = makeStore(root) // of the next run: nothing is trusted yet
        const error = yield* Effect.flip(store.verify(name))
        assert.strictEqual(error.reason._tag, "Corrupt")
        assert.include(error.message, detail)
        assert.deepStrictEqual(readdirSync(join(root, "artifacts")), [`.corrupt-${name}-1`])
        assert.strictEqual((yield* Effect.flip(store.verify(name))).reason._tag, "Missing")
        // Sound bytes under the same name take its place again.
        assert.strictEqual((yield* store.publish(folder(root, "out", { "a.txt": "sixsix" }), "report")).sha256, name)
        assert.strictEqual(yield* store.verify(name), dir)
      })
    )
  }

  it.live("reads an artifact once in a run, and again when size, time or inode have changed", () =>
    Effect.gen(function* () {
      const root = fresh()
      const { sha256: name } = yield* makeStore(root).publish(folder(root, "out", { "a.txt": "sixsix" }), "report")
      const file = join(root, "artifacts", name, "a.txt")
      const store = makeStore(root)
      const [atime, mtime] = [new Date(1e12), new Date(1e12)]
      chmodSync(file, 0o644)
      utimesSync(file, atime, mtime)
      yield* store.verify(name)
      writeFileSync(file, "SIXSIX")
      utimesSync(file, atime, mtime)
      yield* store.verify(name) // same size, time and inode: taken as read
      utimesSync(file, atime, new Date(mtime.getTime() + 5000))
      assert.strictEqual((yield* Effect.flip(store.verify(name))).reason._tag, "Corrupt")
    })
  )

  it("sorts what the system refuses into reasons with a remedy", () => {
    const thrown = (code: string) => Object.assign(new Error(code), { code, path: "/w/artifacts/x" })
    const full = fileFailure("writing", "/w")(thrown("ENOSPC"))
    assert.instanceOf(full, DiskFull)
    assert.match(full.message, /no space left .* \/w\/artifacts\/x: free some space/)
    const denied = fileFailure("writing", "/w")(thrown("EROFS"))
    assert.instanceOf(denied, PermissionDenied)
    assert.match(denied.message, /--warehouse/)
    assert.strictEqual(fileFailure("reading", "/w")(thrown("EIO"))._tag, "FileTrouble")
  })
})

describe("realisations", () => {
  it.live("bind content and code to outputs, one small file each", () =>
    Effect.gen(function* () {
      const root = fresh()
      const outputs = { policy: { kind: "policy", sha256: "ab", bytes: 3 } }
      const one = {
        format: 1,
        contentKey: "c1",
        codeDigest: "d1",
        task: "t",
        stage: "sft",
        attempt: "a",
        outputs
      } as const
      assert.isUndefined(readRealisation(root, "c1", "d1"))
      yield* writeRealisation(root, one)
      yield* writeRealisation(root, { ...one, codeDigest: "d2", attempt: "b" })
      yield* writeRealisation(root, { ...one, attempt: "c" })
      assert.deepStrictEqual(readRealisation(root, "c1", "d1"), { ...one, attempt: "c" })
      writeFileSync(join(root, "realisations", "c1", "d1.json"), '{"format":1,')
      assert.isUndefined(readRealisation(root, "c1", "d1"))
    })
  )
})
