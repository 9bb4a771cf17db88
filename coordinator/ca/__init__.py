"""The certificate authority: who may call itself what."""
