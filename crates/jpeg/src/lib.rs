//! A JPEG decoder whose bytes equal libjpeg-turbo's.
