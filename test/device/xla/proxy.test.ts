/**
 * Behind a proxy, as pip and uv: the index and the files are asked for through HTTP_PROXY, but for hosts of NO_PROXY. A file
 * of its own, since a process reads these variables once.
 */
import { createHash } from "node:crypto"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { download } from "../../../src/device/xla/install/download.ts"
import { get } from "../../../src/device/xla/install/http.ts"

const bytes = Buffer.from("a wheel")
const wheel = {
  project: "one",
  version: "1.0",
  file: "one-1.0-py3-none-any.whl",
  sha256: createHash("sha256").update(bytes).digest("hex")
}
const folder = mkdtempSync(join(tmpdir(), "overtone-proxy-"))
const saved = { ...process.env }
const asked: Array<string> = []
/** A proxy: it is asked for whole addresses. As a server it is asked for paths. */
const server = createServer((request, response) => {
  const url = request.url ?? ""
  asked.push(url)
  if (url.endsWith("/simple/one/")) response.end('<a href="../../files/one-1.0-py3-none-any.whl">one</a>')
  else response.end(bytes)
})

beforeAll(async () => {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  const here = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
  for (const name of ["http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY"]) delete process.env[name]
  Object.assign(process.env, {
    HTTP_PROXY: here,
    NO_PROXY: "127.0.0.1",
    PIP_INDEX_URL: "http://index.example/simple"
  })
})
afterAll(() => {
  server.close()
  for (const name of Object.keys(process.env)) if (saved[name] === undefined) delete process.env[name]
  Object.assign(process.env, saved)
  rmSync(folder, { recursive: true, force: true })
})

it("index and file come through it; a host of NO_PROXY does not", async () => {
  const path = await download(wheel, folder, () => undefined)
  expect(existsSync(path) && readFileSync(path).equals(bytes)).toBe(true)
  expect(asked).toEqual(["http://index.example/simple/one/", "http://index.example/files/one-1.0-py3-none-any.whl"])
  const { response } = await get(new URL("/direct", process.env["HTTP_PROXY"]))
  response.resume()
  expect(asked.at(-1)).toBe("/direct")
})
