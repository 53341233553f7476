/**
 * GET over HTTPS (or HTTP, for an index of one's own) with Node's own client: proxies by HTTPS_PROXY, HTTP_PROXY and NO_PROXY,
 * further certificates by SSL_CERT_FILE, REQUESTS_CA_BUNDLE or PIP_CERT, redirects followed.
 */
import { existsSync, readFileSync } from "node:fs"
import http, { type IncomingMessage } from "node:http"
import https from "node:https"
import { getCACertificates } from "node:tls"
import { InstallFailed } from "./InstallFailed.ts"

/** A URL without the password that it may hold. */
export const shown = (url: URL): string => {
  const bare = new URL(url)
  bare.username = ""
  bare.password = ""
  return bare.href
}

const certificates = (): Array<string> => {
  const files = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT"].flatMap((name) => process.env[name] ?? [])
  const further = [...new Set(files)].filter((file) => existsSync(file)).map((file) => readFileSync(file, "utf8"))
  return [...getCACertificates("default"), ...further]
}

let agents: { readonly http: http.Agent; readonly https: https.Agent } | undefined

const agentFor = (url: URL): http.Agent => {
  agents ??= {
    http: new http.Agent({ proxyEnv: process.env, keepAlive: false }),
    https: new https.Agent({ proxyEnv: process.env, keepAlive: false, ca: certificates() })
  }
  return url.protocol === "https:" ? agents.https : agents.http
}

/** Milliseconds without a byte after which a connection is given up. */
const idleMs = 60_000

/** The response to a GET, whatever its status; its body is still to be read. Rejects with InstallFailed. */
export const get = (
  url: URL,
  headers: Readonly<Record<string, string>> = {},
  redirects = 5
): Promise<{ readonly response: IncomingMessage; readonly url: URL }> =>
  new Promise((resolve, reject) => {
    if (url.protocol !== "https:" && url.protocol !== "http:") {
      reject(new InstallFailed(`${shown(url)} is no address of the web`))
      return
    }
    const client = url.protocol === "https:" ? https : http
    const request = client.get(url, { agent: agentFor(url), headers: { "user-agent": "overtone", ...headers } })
    request.setTimeout(idleMs, () => request.destroy(new Error(`no answer for ${idleMs / 1000} s`)))
    request.on("error", (error) => reject(new InstallFailed(`${shown(url)} cannot be read: ${error.message}`)))
    request.on("response", (response) => {
      const { location } = response.headers
      if (response.statusCode !== undefined && response.statusCode >= 300 && response.statusCode < 400 && location) {
        response.resume()
        if (redirects === 0) reject(new InstallFailed(`${shown(url)} redirects without end`))
        else get(new URL(location, url), headers, redirects - 1).then(resolve, reject)
        return
      }
      resolve({ response, url })
    })
  })

/** The body of a response as text. */
export const bodyOf = async (response: IncomingMessage): Promise<string> => {
  const parts: Array<Buffer> = []
  for await (const part of response) parts.push(part)
  return Buffer.concat(parts).toString("utf8")
}
