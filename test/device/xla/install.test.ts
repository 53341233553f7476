/** Installing a plugin: from an index of our own on this machine, in both forms of its pages, cut off, forged, and from folders. */
import { createHash } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { createServer, type Server } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { crc32, deflateRawSync } from "node:zlib"
import { afterEach, beforeEach, expect, test } from "vitest"
import { InstallFailed } from "../../../src/device/xla/install/InstallFailed.ts"
import { installPlugin } from "../../../src/device/xla/install/installPlugin.ts"
import { filesOf } from "../../../src/device/xla/install/packageIndex.ts"
import { unzip } from "../../../src/device/xla/install/unzip.ts"
import { locatePlugin, type Plugin, pluginFolder } from "../../../src/device/xla/plugins.ts"

/** A zip archive: names, contents, whether deflated. */
const zip = (files: ReadonlyArray<readonly [name: string, text: string, deflated?: boolean]>): Buffer => {
  const parts: Array<Buffer> = []
  const directory: Array<Buffer> = []
  let offset = 0
  for (const [name, text, deflated = true] of files) {
    const raw = Buffer.from(text)
    const data = deflated ? deflateRawSync(raw) : raw
    const head = Buffer.alloc(30)
    head.writeUInt32LE(0x04034b50)
    head.writeUInt16LE(name.length, 26)
    const entry = Buffer.alloc(46)
    entry.writeUInt32LE(0x02014b50)
    entry.writeUInt16LE(deflated ? 8 : 0, 10)
    entry.writeUInt32LE(crc32(raw), 16)
    entry.writeUInt32LE(data.length, 20)
    entry.writeUInt32LE(raw.length, 24)
    entry.writeUInt16LE(name.length, 28)
    entry.writeUInt32LE((0o755 << 16) >>> 0, 38)
    entry.writeUInt32LE(offset, 42)
    parts.push(head, Buffer.from(name), data)
    directory.push(entry, Buffer.from(name))
    offset += 30 + name.length + data.length
  }
  const listing = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50)
  end.writeUInt16LE(files.length, 10)
  end.writeUInt32LE(listing.length, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, listing, end])
}

const digest = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")
const library = zip([
  ["one/lib.so", "library ".repeat(4000)],
  ["one-1.0.dist-info/METADATA", "Name: one", false]
])
const vendor = zip([
  ["nvidia/cu13/lib/x.so", "vendor"],
  ["nvidia/empty", ""]
])
const wheel = (project: string, bytes: Buffer) => ({
  project,
  version: "1.0",
  file: `${project}-1.0-py3-none-any.whl`,
  sha256: digest(bytes)
})
const plugin: Plugin = {
  name: "cpu",
  provider: "xla:cpu",
  version: "1.0",
  library: "one/lib.so",
  wheels: [wheel("one", library), wheel("two", vendor)]
}

let cache: string
let server: Server
/** What the index serves by path; a function writes the response itself. */
let files: Map<string, Buffer>
let requests: Array<string>
/** Bytes after which the next download breaks off. */
let cut: number | undefined
const saved = { ...process.env }

beforeEach(async () => {
  cache = mkdtempSync(join(tmpdir(), "overtone-install-"))
  requests = []
  cut = undefined
  files = new Map([
    ["/files/one-1.0-py3-none-any.whl", library],
    ["/files/two-1.0-py3-none-any.whl", vendor]
  ])
  server = createServer((request, response) => {
    const url = request.url ?? ""
    requests.push(`${url} ${request.headers.range ?? ""}`.trim())
    if (url === "/simple/one/") {
      response.setHeader("content-type", "application/vnd.pypi.simple.v1+json")
      response.end(
        JSON.stringify({
          files: [{ filename: "one-1.0-py3-none-any.whl", url: "../../files/one-1.0-py3-none-any.whl" }]
        })
      )
    } else if (url === "/simple/two/") {
      response.setHeader("content-type", "text/html")
      response.end(`<a href="/moved/two-1.0-py3-none-any.whl#sha256=${digest(vendor)}">two</a>`)
    } else if (url.startsWith("/moved/")) response.writeHead(302, { location: url.replace("moved", "files") }).end()
    else {
      const bytes = files.get(url)
      if (bytes === undefined) return void response.writeHead(404).end()
      const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? "")?.[1] ?? 0)
      response.writeHead(from > 0 ? 206 : 200, { "content-length": bytes.length - from })
      if (cut !== undefined) {
        response.write(bytes.subarray(from, from + cut))
        const whole = from + cut
        cut = undefined
        // when that much lies on the disk
        const part = join(cache, "downloads", `${url.split("/").at(-1)}.part`)
        const end = () =>
          (statSync(part, { throwIfNoEntry: false })?.size ?? 0) < whole ? setTimeout(end, 5) : response.destroy()
        end()
      } else response.end(bytes.subarray(from))
    }
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  Object.assign(process.env, {
    OVERTONE_CACHE: cache,
    PIP_INDEX_URL: `http://127.0.0.1:${port}/simple`,
    NO_PROXY: "127.0.0.1"
  })
})
afterEach(() => {
  server.close()
  for (const name of ["OVERTONE_CACHE", "PIP_INDEX_URL", "NO_PROXY"]) {
    if (saved[name] === undefined) delete process.env[name]
    else process.env[name] = saved[name]
  }
  rmSync(cache, { recursive: true, force: true })
})

const failed = async (promise: Promise<unknown>): Promise<string> => {
  const error = await promise.then(
    () => undefined,
    (e: unknown) => e
  )
  expect(error).toBeInstanceOf(InstallFailed)
  return (error as Error).message
}

test("wheels lie side by side, whole or not at all; what is there is not fetched again", async () => {
  expect(locatePlugin(plugin)).toHaveProperty("missing")
  expect(await installPlugin(plugin)).toEqual({ folder: pluginFolder(plugin), state: "installed" })
  const located = locatePlugin(plugin)
  expect("path" in located && readFileSync(located.path, "utf8")).toBe("library ".repeat(4000))
  expect(readFileSync(join(pluginFolder(plugin), "nvidia/cu13/lib/x.so"), "utf8")).toBe("vendor")
  expect(readFileSync(join(pluginFolder(plugin), "nvidia/empty"), "utf8")).toBe("")
  const count = requests.length
  expect((await installPlugin(plugin)).state).toBe("present")
  expect(requests.length).toBe(count)
  expect(readdirSync(join(cache, "devices"))).toEqual(["cpu-1.0"])
})

test("a download that broke off goes on where it was", async () => {
  cut = 40
  await installPlugin(plugin)
  expect(requests).toContain("/files/one-1.0-py3-none-any.whl bytes=40-")
  expect("path" in locatePlugin(plugin)).toBe(true)
})

test("a file with another digest is not used, nor kept", async () => {
  files.set("/files/two-1.0-py3-none-any.whl", Buffer.from("forged"))
  expect(await failed(installPlugin(plugin))).toMatch(/two-1\.0.*another SHA-256 than the pinned/)
  expect(locatePlugin(plugin)).toHaveProperty("missing")
  expect(readdirSync(join(cache, "downloads"))).toEqual(["one-1.0-py3-none-any.whl"])
  expect(readdirSync(join(cache, "devices"))).toEqual([])
})

test("an index without the project or the file says so", async () => {
  const absent = { ...plugin, wheels: [wheel("three", vendor)] }
  expect(await failed(installPlugin(absent))).toMatch(/answers 404: the index has no project three/)
  const other = { ...plugin, wheels: [{ ...wheel("one", library), file: "one-2.0.whl" }] }
  expect(await failed(installPlugin(other))).toMatch(/has no one-2\.0\.whl .*--from/)
  process.env["PIP_INDEX_URL"] = "http://127.0.0.1:1/simple"
  expect(await failed(installPlugin(plugin))).toMatch(/http:\/\/127\.0\.0\.1:1\/simple\/one\/ cannot be read/)
})

test("--from takes wheels, checked; or links to an environment; or says what it wanted", async () => {
  const from = join(cache, "wheels")
  mkdirSync(from)
  expect(await failed(installPlugin(plugin, { from }))).toMatch(/has neither the wheels .* nor one\/lib\.so/)
  writeFileSync(join(from, "one-1.0-py3-none-any.whl"), library)
  expect(await failed(installPlugin(plugin, { from }))).toMatch(/lacks two-1\.0/)
  writeFileSync(join(from, "two-1.0-py3-none-any.whl"), "no wheel")
  expect(await failed(installPlugin(plugin, { from }))).toMatch(/is pinned: not used/)
  writeFileSync(join(from, "two-1.0-py3-none-any.whl"), vendor)
  await installPlugin(plugin, { from })
  expect(requests).toEqual([])
  const environment = pluginFolder(plugin)
  const again = { ...plugin, version: "2.0" }
  await installPlugin(again, { from: environment })
  expect(existsSync(join(pluginFolder(again), "nvidia/cu13/lib/x.so"))).toBe(true)
  expect("path" in locatePlugin(again)).toBe(true)
})

test("an archive that reaches outside its folder, or is damaged, is refused", async () => {
  const outside = zip([
    ["one/lib.so", "x"],
    ["../../escaped", "x"]
  ])
  const from = join(cache, "wheels")
  mkdirSync(from)
  const one = (bytes: Buffer) => {
    writeFileSync(join(from, "one-1.0-py3-none-any.whl"), bytes)
    return failed(installPlugin({ ...plugin, wheels: [wheel("one", bytes)] }, { from }))
  }
  expect(await one(outside)).toMatch(/lies outside of it/)
  expect(existsSync(join(cache, "escaped"))).toBe(false)
  const damaged = Buffer.from(library)
  damaged[60]! ^= 255
  expect(await one(damaged)).toMatch(/one\/lib\.so of .*one-1\.0/)
  expect(await one(Buffer.from("nothing of the kind"))).toMatch(/is no zip archive/)
  expect(await one(zip([["other", "x"]]))).toMatch(/hold no one\/lib\.so/)
})

test("a file without content that cannot be made is the archive's failure, as any other, and no error outside of it", async () => {
  const archive = join(cache, "empty.zip")
  writeFileSync(
    archive,
    zip([
      ["package/a/", ""],
      ["package/a", ""]
    ])
  )
  await expect(unzip(archive, join(cache, "unpacked"))).rejects.toThrow(InstallFailed)
  await expect(unzip(archive, join(cache, "unpacked"))).rejects.toThrow(/package\/a of .*EISDIR/)
})

test("pages of both forms name their files", () => {
  const base = new URL("https://index.example/simple/one/")
  const html = '<a data-x="1" href="../../f/a%2Bb-1.whl#sha256=00">a</a> <a href="https://o.example/c-1.whl">c</a>'
  expect([...filesOf(html, "text/html", base)].map(([name, url]) => [name, url.host])).toEqual([
    ["a+b-1.whl", "index.example"],
    ["c-1.whl", "o.example"]
  ])
})
