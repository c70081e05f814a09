// An OpenID provider for tests: prints its address, and takes a new key on POST /rotate.
import http from 'node:http'
import { generateKeyPair, exportJWK } from 'jose'
import { Provider } from 'oidc-provider'

const server = http.createServer()
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const issuer = `http://127.0.0.1:${server.address().port}`

let count = 0
const newKey = async () => {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true })
  count += 1
  return { ...(await exportJWK(privateKey)), kid: `key-${count}`, use: 'sig', alg: 'ES256' }
}

// The first of the keys signs, the others are shown.
const provider = (keys) => new Provider(issuer, {
  jwks: { keys },
  clients: [{
    client_id: 'robot',
    client_secret: 'not-secret-in-a-test',
    grant_types: ['client_credentials'],
    id_token_signed_response_alg: 'ES256',
    redirect_uris: [],
    response_types: []
  }],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:proton-gateway',
      getResourceServerInfo: () => ({
        scope: '',
        audience: 'proton-gateway',
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'ES256' } }
      })
    }
  }
}).callback()

let keys = [await newKey()]
let answer = provider(keys)
server.on('request', async (request, response) => {
  if (request.method === 'POST' && request.url === '/rotate') {
    keys = [await newKey(), keys[0]]
    answer = provider(keys)
    response.end(keys[0].kid)
  } else {
    answer(request, response)
  }
})
console.log(issuer)
