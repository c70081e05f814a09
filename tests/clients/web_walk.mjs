// One walk as a page's scripts take it: web_walk.mjs URL DESCRIPTORS ORIGIN WALK
//
// The contract comes from its descriptors; nothing is generated.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const [url, descriptors, page, walk] = process.argv.slice(2);
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const service = (name) => registry.getService(name);

// What a browser adds by itself.
const from = (origin) =>
  createGrpcWebTransport({
    baseUrl: url,
    useBinaryFormat: true,
    interceptors: [
      (next) => (request) => {
        request.header.set("origin", origin);
        return next(request);
      },
    ],
  });
const proton = (transport) => createClient(service("proton.v1.ProtonService"), transport);

async function failed(call) {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  assert.fail("it succeeded");
}

const walks = {
  async unary() {
    const client = proton(from(page));
    let headers;
    const answer = await client.createServiceTemplate(
      { name: "of-a-page", description: "käse" },
      { headers: { "x-request-id": "page-7" }, onHeader: (given) => (headers = given) },
    );
    assert.equal(answer.serviceTemplate.description, "käse");
    assert.equal(headers.get("x-request-id"), "page-7");
    const read = { onHeader: (given) => (headers = given) };
    const found = await client.getServiceTemplate({ name: "of-a-page" }, read);
    assert.ok(headers.get("etag"));
    assert.equal(found.serviceTemplate.name, "of-a-page");
  },

  async error() {
    const error = await failed(proton(from(page)).getEnvironment({ name: "missing" }));
    assert.equal(error.code, Code.NotFound);
    assert.match(error.message, /missing/);
    assert.ok(error.details.some((detail) => detail.type === "google.rpc.ErrorInfo"));
  },

  async stream() {
    const client = proton(from(page));
    for (const number of [1, 2, 3]) {
      await client.createServiceTemplate({ name: `stream-${number}` });
    }
    const pages = createClient(service("proton.v1.PaginatorService"), from(page));
    const names = [];
    for await (const item of pages.pageServiceTemplates({ request: { maxResults: 1 } })) {
      names.push(...item.page.templates.map((template) => template.name));
    }
    for (const number of [1, 2, 3]) assert.ok(names.includes(`stream-${number}`), names);
  },

  async refused() {
    const evil = proton(from("https://evil.example"));
    const error = await failed(evil.createServiceTemplate({ name: "of-evil" }));
    assert.equal(error.code, Code.PermissionDenied);
    const none = await failed(proton(from(page)).getServiceTemplate({ name: "of-evil" }));
    assert.equal(none.code, Code.NotFound);
  },

  async preflight() {
    const answer = await fetch(`${url}/proton.v1.ProtonService/GetEnvironment`, {
      method: "OPTIONS",
      headers: {
        origin: page,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type,x-grpc-web",
      },
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("access-control-allow-origin"), page);
    assert.match(answer.headers.get("access-control-allow-headers"), /x-grpc-web/);
  },
};

await walks[walk]();
