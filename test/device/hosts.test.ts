/** What the environment says of several hosts. */
import { describe, expect, it } from "vitest"
import { addressText, BadHosts, hostsOf, isLoopback } from "../../src/device/hosts.ts"

const of = (coordinator?: string, count?: string, id?: string, secret?: string) =>
  hostsOf({
    OVERTONE_COORDINATOR: coordinator,
    OVERTONE_HOSTS: count,
    OVERTONE_HOST_ID: id,
    OVERTONE_HOSTS_SECRET: secret
  })

describe("hosts of the environment", () => {
  it("are none where nothing is said, or one", () => {
    expect([of(), of("", "", ""), of("node0:7788", "1", "0"), of(undefined, "1")]).toEqual(Array(4).fill(undefined))
  })

  it("have an address, a number, and may have a secret", () => {
    expect(of("node0.cluster:7788", "4", "3")).toEqual({
      coordinator: { host: "node0.cluster", port: 7788 },
      count: 4,
      id: 3,
      secret: ""
    })
    const six = of("[fe80::1]:1", " 2 ", "0", "word")!
    expect([six.coordinator, six.secret, addressText(six.coordinator)]).toEqual([
      { host: "fe80::1", port: 1 },
      "word",
      "[fe80::1]:1"
    ])
    expect(["localhost", "127.0.0.1", "::1", "127.0.0.1.example.org", "10.0.0.1"].map(isLoopback)).toEqual([
      true,
      true,
      true,
      false,
      false
    ])
  })

  it.each([
    [["a:1", undefined, undefined], /OVERTONE_COORDINATOR is set, and OVERTONE_HOSTS is not/],
    [[undefined, undefined, "0"], /OVERTONE_HOST_ID is set, and OVERTONE_HOSTS is not/],
    [["a:1", "two", "0"], /OVERTONE_HOSTS=two is no number of hosts/],
    [["a:1", "0", "0"], /OVERTONE_HOSTS=0 is no number of hosts/],
    [["a:1", "1.5", "0"], /OVERTONE_HOSTS=1.5 is no number/],
    [[undefined, "2", "0"], /OVERTONE_HOSTS=2 needs OVERTONE_COORDINATOR/],
    [["a:1", "2", undefined], /needs OVERTONE_HOST_ID, the number of this host from 0 to 1/],
    [["a:1", "2", "2"], /OVERTONE_HOST_ID=2 is none of 2 hosts: write a number from 0 to 1/],
    [["a:1", "2", "-1"], /OVERTONE_HOST_ID=-1 is none/],
    [["a", "2", "0"], /OVERTONE_COORDINATOR=a is no address of host 0: write HOST:PORT/],
    [["a:0", "2", "0"], /is no address/],
    [["a:70000", "2", "0"], /is no address/],
    [["fe80::1:80", "2", "0"], /is no address/],
    [["http://a:80", "2", "0"], /is no address/]
  ])("%j is refused with the variable that is wrong", (said, message) => {
    expect(() => of(...(said as [string?, string?, string?]))).toThrow(BadHosts)
    expect(() => of(...(said as [string?, string?, string?]))).toThrow(message)
  })
})
