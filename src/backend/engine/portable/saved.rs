//! What AWS Proton's command line has printed, as what a store is to hold.
